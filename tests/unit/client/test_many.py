"""send_all: many signatures, their results in order, and an error that says what went out and what did not."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import pytest
import redis
from celery import Celery, signals
from celery._state import _task_stack
from kombu.exceptions import OperationalError

from pico_celery_client import (
    CeleryClient,
    TaskResult,
    celery,
    partial_signature,
    send_all,
    send_all_sync,
    signature,
    with_options,
)
from pico_celery_client.testing import RecordingCelery
from pico_celery_core import send_task
from pico_celery_core.errors import (
    ArgumentEncodingError,
    CallError,
    DeclarationError,
    NotAllSentError,
    PublishTimeoutError,
)
from pico_celery_core.sensitive import Sensitive
from tests.servers import own_redis
from tests.services import rabbitmq_queue, rabbitmq_url
from tests.unit.client.arrivals import arrived, numbers
from tests.waiting import until

pytestmark = pytest.mark.filterwarnings("ignore:.*setex.*:DeprecationWarning")


@celery
class Client(CeleryClient):
    @send_task("tasks.run")
    async def run(self, number: Any) -> int: ...

    @send_task("tasks.other", priority=3)
    def other(self, number: int, *, text: str = "it's") -> str: ...

    @send_task("tasks.login")
    def login(self, user: str, password: Annotated[str, Sensitive]) -> bool: ...


@pytest.fixture
def connect(container, sending_app) -> Callable[[str], Client]:
    """Make a client whose broker is at a URL."""
    return lambda url: container(Client, overrides={Celery: sending_app(url)}).get(Client)


@contextmanager
def heard(signal: Any, receiver: Callable[..., Any]) -> Iterator[None]:
    signal.connect(receiver, weak=False)
    try:
        yield
    finally:
        signal.disconnect(receiver)


async def in_a_coroutine(signatures: Any) -> list[TaskResult[Any]]:
    return await send_all(signatures)


async def on_a_thread(signatures: Any) -> list[TaskResult[Any]]:
    return await asyncio.to_thread(send_all_sync, signatures)


both = pytest.mark.parametrize("send", [in_a_coroutine, on_a_thread])


@both
async def test_each_is_sent_once_in_batches_and_the_results_are_in_order(connect, redis_url, sizes, send):
    client = connect(redis_url)
    await client.run(-1)
    del sizes[:]
    results = await send(signature(client.run, number) for number in range(250))
    messages = arrived(redis_url)
    assert numbers(messages) == list(range(-1, 250))
    assert [result.id for result in results] == [message.headers["id"] for message in messages[1:]]
    assert sizes == [100, 100, 50]
    assert all(isinstance(result, TaskResult) for result in results)


@both
async def test_a_message_is_the_one_that_a_call_would_send(connect, redis_url, send):
    client = connect(redis_url)
    made = [
        lambda of: of(client.other, 1),
        lambda of: of(client.other, 2, text="x" * 2000),
        lambda of: of(client.login, "ada", "secret"),
        lambda of: of(with_options(client, headers={"tenant": "acme"}).other, 3),
        lambda of: of(with_options(client, headers={"tenant": "acme"}).other, 4),
        lambda of: of(with_options(client, countdown=60).other, 5),
        lambda of: of(client.other, 6, text="é"),
        lambda of: of(client.login, "bob", "secret"),
    ]
    for make in made:
        make(lambda stub, *args, **kwargs: stub(*args, **kwargs))
    called = arrived(redis_url)
    await send([make(signature) for make in made])
    sent = arrived(redis_url)
    messages = called + sent
    for one, other in zip(called, sent, strict=True):
        assert one.payload == other.payload
        assert one.headers.keys() == other.headers.keys()
        own = {"id", "root_id", "pico_published_at", "eta"}
        assert {k: v for k, v in one.headers.items() if k not in own} == {
            k: v for k, v in other.headers.items() if k not in own
        }
        assert other.headers["id"] == other.headers["root_id"] == other.properties["correlation_id"]
        assert other.headers["pico_published_at"] >= one.headers["pico_published_at"]
        for name in ("priority", "delivery_mode", "delivery_info", "body_encoding"):
            assert one.properties[name] == other.properties[name]
    assert "secret" not in str([message.headers for message in messages])
    assert len({message.headers["id"] for message in messages}) == 2 * len(made)
    assert len({message.properties["delivery_tag"] for message in messages}) == 2 * len(made)


async def test_who_hears_of_each_message_hears_of_each(connect, redis_url):
    client = connect(redis_url)
    heard_of: list[str] = []
    for signal in (signals.before_task_publish, signals.after_task_publish):
        with heard(signal, lambda headers, **_: heard_of.append(headers["id"])):
            results = await send_all(signature(client.run, number) for number in range(12))
        assert heard_of == [result.id for result in results]
        del heard_of[:]
    assert numbers(arrived(redis_url)) == [*range(12), *range(12)]


async def test_a_router_sees_the_arguments_of_each(connect, redis_url):
    client = connect(redis_url)
    signatures = [signature(client.run, number) for number in range(4)]
    signatures[0].app.conf.task_routes = [lambda _, args, *__, **___: {"queue": "odd" if args[0] % 2 else "even"}]
    await send_all(signatures)
    assert numbers(arrived(redis_url, "odd")) == [1, 3]
    assert numbers(arrived(redis_url, "even")) == [0, 2]


@both
async def test_what_fails_is_told_apart_from_what_went_out(connect, redis_url, send):
    client = connect(redis_url)
    await client.run(-1)
    refused = with_options(client, queue="refused")
    with redis.Redis.from_url(redis_url) as server:
        server.set("refused", "no list")
        signatures = [signature(client.run, 0), signature(refused.run, 1), signature(client.run, object())]
        with pytest.raises(NotAllSentError) as caught:
            await send([*signatures, signature(client.run, 3)])
    error = caught.value
    assert (error.sent, error.unsent, error.count) == (2, 2, 4)
    assert "WRONGTYPE" in str(error)
    messages = arrived(redis_url)
    assert numbers(messages) == [-1, 0, 3]
    assert {number: result.id for number, result in error.results.items()} == {
        0: messages[1].headers["id"],
        3: messages[2].headers["id"],
    }
    assert {number: type(cause) for number, cause in error.causes.items()} == {
        1: OperationalError,
        2: ArgumentEncodingError,
    }
    assert error.__cause__ is error.causes[1]


@both
async def test_a_broker_that_is_away_is_not_tried_for_each(connect, send):
    with own_redis() as server:
        client = connect(server.url)
    with pytest.raises(NotAllSentError) as caught:
        await send(signature(client.run, number) for number in range(1000))
    assert (caught.value.sent, caught.value.unsent) == (0, 1000)
    assert {type(cause) for cause in caught.value.causes.values()} == {OperationalError}
    assert "Sending task 'tasks.run' to redis://" in str(caught.value.causes[0])
    assert "Nothing was sent, as those before it failed" in str(caught.value.causes[999])


async def test_at_the_deadline_each_says_whether_it_may_arrive(connect, redis_url):
    client = connect(redis_url)
    await client.run(-1)
    release = threading.Event()
    with heard(signals.before_task_publish, lambda **_: release.wait(60)):
        with pytest.raises(NotAllSentError) as caught:
            await send_all([signature(client.run, number) for number in range(150)], publish_timeout=0.2)
        release.set()
    causes = caught.value.causes
    assert isinstance(causes[0], PublishTimeoutError)  # a busy machine may not have begun it
    assert "Nothing was sent" in str(causes[99])
    assert "Nothing was sent" in str(causes[149])
    await client.run(200)
    assert not set(numbers(arrived(redis_url))) & set(range(1, 150))


async def test_who_is_cancelled_sends_nothing_more(connect, redis_url):
    client = connect(redis_url)
    begun, release = threading.Event(), threading.Event()

    def hold(**_: Any) -> None:
        begun.set()
        release.wait(60)

    with heard(signals.before_task_publish, hold):
        sending = asyncio.ensure_future(send_all([signature(client.run, number) for number in range(150)]))
        await until(begun.is_set)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        release.set()
    await client.run(200)
    assert not set(numbers(arrived(redis_url))) & set(range(1, 150))


async def test_messages_with_policies_of_their_own_are_sent_alone(connect, redis_url, sizes):
    client = connect(redis_url)
    own = with_options(client, retry_policy={"max_retries": 2})
    results = await send_all([signature(own.run, 1), signature(client.run, 2), signature(own.run, 3)])
    assert len(results) == 3
    assert sorted(numbers(arrived(redis_url))) == [1, 2, 3]


@both
async def test_rabbitmq_takes_them_in_batches_too(connect, send):
    with rabbitmq_queue() as queue:
        client = with_options(connect(rabbitmq_url()), queue=queue)
        results = await send([signature(client.run, number) for number in range(130)])
        messages = arrived(rabbitmq_url(), queue)
    assert [message.headers["id"] for message in messages] == [result.id for result in results]
    assert numbers(messages) == list(range(130))


@both
async def test_any_broker_will_do(container, sent, send):
    client = container(Client).get(Client)
    results = await send([signature(client.run, number) for number in range(30)])
    assert [message.id for message in sent()] == [result.id for result in results]


async def test_several_apps_may_be_mixed(connect, redis_url):
    with own_redis() as server:
        one, other = connect(redis_url), connect(server.url)
        results = await send_all([signature(one.run, 1), signature(other.run, 2), signature(one.run, 3)])
        assert [result.app.conf.broker_url for result in results] == [redis_url, server.url, redis_url]
        assert numbers(arrived(server.url)) == [2]
    assert numbers(arrived(redis_url)) == [1, 3]


def test_what_a_task_sends_has_that_task_as_its_parent(connect, redis_url):
    client = connect(redis_url)
    app = signature(client.run, 0).app

    @app.task(name="parent")
    def parent() -> None: ...

    parent.push_request(id="an-id", root_id="a-root", children=[], called_directly=False)
    try:
        _task_stack.push(parent)
        try:
            results = send_all_sync([signature(client.run, number) for number in range(3)])
        finally:
            _task_stack.pop()
        children = parent.request.children
    finally:
        parent.pop_request()
    assert {(m.headers["parent_id"], m.headers["root_id"]) for m in arrived(redis_url)} == {("an-id", "a-root")}
    assert [child.id for child in children] == [result.id for result in results]


async def test_a_test_double_records_each(container):
    recording = RecordingCelery()
    client = container(Client, overrides={Celery: recording}).get(Client)
    recording.returns(client.other, "done")
    results = await send_all(signature(client.other, number) for number in range(3))
    assert [call.args for call in recording.calls_of(client.other)] == [(0,), (1,), (2,)]
    assert [await result for result in results] == ["done"] * 3


async def test_nothing_to_send_is_no_error(connect):
    assert await send_all([]) == []
    assert send_all_sync([]) == []


async def test_a_call_that_lacks_an_argument_is_refused_before_any_is_sent(connect, redis_url):
    client = connect(redis_url)
    with pytest.raises(CallError, match="missing a required argument: 'number'"):
        await send_all([signature(client.other, 1), partial_signature(client.other, text="open")])
    assert arrived(redis_url) == []


async def test_what_is_no_signature_of_a_stub_is_refused(connect, redis_url):
    client = connect(redis_url)
    with pytest.raises(DeclarationError, match="it is not a TaskSignature"):
        await send_all([client.other])


async def test_sending_on_a_running_event_loop_draws_a_warning(connect, redis_url, caplog):
    caplog.set_level(logging.WARNING)
    send_all_sync([signature(connect(redis_url).run, 1)])
    assert "Await send_all()" in caplog.text
    arrived(redis_url)
