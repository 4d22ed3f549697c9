"""Sending without blocking an event loop, whatever the broker does."""

import asyncio
import contextvars
import gc
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
from celery import Celery
from kombu.exceptions import InconsistencyError, OperationalError
from kombu.transport.redis import Channel
from pico_ioc import factory, init, provides
from redis import ResponseError

from pico_celery_client import CeleryClient, celery, with_options
from pico_celery_client.publishing.publisher import _THREADS as THREADS
from pico_celery_client.publishing.publisher import _publishers, publish
from pico_celery_core import send_task
from pico_celery_core.errors import PublishTimeoutError
from tests.servers import REFUSALS, free_port, own_redis, silent_server, unreachable_server
from tests.waiting import until

pytestmark = pytest.mark.filterwarnings("ignore:.*setex.*:DeprecationWarning")


@celery
class Client(CeleryClient):
    @send_task("tasks.run")
    async def run(self, number: int = 0) -> str: ...

    @send_task("tasks.run")
    def run_now(self, number: int = 0) -> str: ...


class Held:
    """A send that a test holds up."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.release = threading.Event()
        self.sent: list[int] = []

    def send(self, number: int) -> Callable[[Any], int]:
        def send(_: Any) -> int:
            self.begun.set()
            assert self.release.wait(60)
            self.sent.append(number)
            return number

        return send


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    yield held
    held.release.set()


async def test_the_loop_goes_on_while_the_broker_answers(app, held):
    sending = asyncio.ensure_future(publish(app, "tasks.run", held.send(1), {}, 10))
    await until(held.begun.is_set)
    held.release.set()
    assert await sending == 1


async def test_what_the_broker_raises_reaches_the_caller(app):
    def send(_: Any) -> None:
        raise ConnectionError("broker is down")

    with pytest.raises(ConnectionError, match="broker is down"):
        await publish(app, "tasks.run", send, {}, 10)


async def test_a_timeout_error_of_the_sender_is_told_from_the_deadline(app):
    def send(_: Any) -> None:
        raise TimeoutError("of the socket")

    with pytest.raises(TimeoutError, match="of the socket"):
        await publish(app, "tasks.run", send, {}, 10)


async def test_a_send_that_hangs_ends_for_the_caller_at_the_deadline(app, held):
    with pytest.raises(PublishTimeoutError) as error:
        await publish(app, "tasks.run", held.send(1), {}, 0.05)
    assert str(error.value).startswith("Sending task 'tasks.run' to memory://")
    assert str(error.value).endswith(
        " took longer than 0.05 s: the broker did not answer. The message may arrive yet. "
        "Check that the broker can be reached, or give it more time with publish_timeout."
    )
    assert isinstance(error.value, TimeoutError)


async def test_without_a_deadline_it_takes_as_long_as_it_takes(app, held):
    sending = asyncio.ensure_future(publish(app, "tasks.run", held.send(1), {}, None))
    await until(held.begun.is_set)
    held.release.set()
    assert await sending == 1


async def test_what_fails_after_the_deadline_is_late_though_the_deadline_is_noticed_after_it(app, monkeypatch):
    """As on a busy machine: the socket's limit is as long as the deadline, and either may be noticed first."""
    loop = asyncio.get_running_loop()
    call_at = loop.call_at
    monkeypatch.setattr(loop, "call_at", lambda when, *args, **options: call_at(when + 60, *args, **options))
    passed = threading.Event()

    def send(_: Any) -> None:
        assert passed.wait(60)
        raise OperationalError("Sending it failed") from ConnectionError("timed out")

    sending = asyncio.ensure_future(publish(app, "tasks.run", send, {}, 0.01))
    started = loop.time()
    await asyncio.sleep(0)
    monkeypatch.undo()
    await until(lambda: loop.time() > started + 0.1)
    passed.set()
    with pytest.raises(PublishTimeoutError, match=r"longer than 0\.01 s: timed out\. The message may arrive") as error:
        await sending
    assert isinstance(error.value.__cause__, ConnectionError)


async def test_what_fails_before_the_deadline_is_not(app):
    def send(_: Any) -> None:
        raise OperationalError("refused")

    with pytest.raises(OperationalError, match="refused"):
        await publish(app, "tasks.run", send, {}, 10)


@contextmanager
def all_threads_busy(app: Celery, held: Held) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    hanging = [loop.create_task(publish(app, "tasks.run", held.send(0), {}, None)) for _ in range(THREADS)]
    yield
    for task in hanging:
        task.cancel()


async def test_what_no_thread_has_begun_at_the_deadline_is_not_sent_later(app, held):
    with all_threads_busy(app, held):
        await until(held.begun.is_set)
        with pytest.raises(PublishTimeoutError, match=r"earlier messages were still waiting.* Nothing was sent\."):
            await publish(app, "tasks.run", held.send(1), {}, 0.05)
        held.release.set()
        await until(lambda: len(held.sent) == THREADS)
    assert await publish(app, "tasks.run", held.send(2), {}, 10) == 2
    assert held.sent == [0] * THREADS + [2]


async def test_what_no_thread_has_begun_when_the_caller_is_cancelled_is_not_sent_later(app, held):
    with all_threads_busy(app, held):
        await until(held.begun.is_set)
        waiting = asyncio.ensure_future(publish(app, "tasks.run", held.send(1), {}, None))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        held.release.set()
        await until(lambda: len(held.sent) == THREADS)
    assert await publish(app, "tasks.run", held.send(2), {}, 10) == 2
    assert held.sent == [0] * THREADS + [2]


async def test_what_has_only_waited_for_a_connection_at_the_deadline_is_not_sent_later(app, held):
    app.conf.broker_pool_limit = 1
    first = asyncio.ensure_future(publish(app, "tasks.run", held.send(1), {}, None))
    await until(held.begun.is_set)
    with pytest.raises(PublishTimeoutError, match=r"earlier messages were still waiting.* Nothing was sent\."):
        await publish(app, "tasks.run", held.send(2), {}, 0.05)
    held.release.set()
    assert await first == 1
    threads = _publishers.of(app).threads
    await until(lambda: threads._idle._value == threads._threads)
    assert held.sent == [1]


async def test_an_app_whose_broker_hangs_holds_up_no_other(app, held):
    with all_threads_busy(app, held):
        await until(held.begun.is_set)
        other = Celery("other", broker="memory://", set_as_current=False)
        assert await publish(other, "tasks.run", lambda _: "sent", {}, 10) == "sent"
        other.close()


async def test_the_threads_of_an_app_end_with_it():
    before = set(threading.enumerate())
    app = Celery("short-lived", broker="memory://", set_as_current=False)
    await publish(app, "tasks.run", lambda _: None, {}, 10)
    (thread,) = set(threading.enumerate()) - before
    app.close()
    del app

    def ended() -> bool:
        gc.collect()
        return not thread.is_alive()

    await until(ended)


async def test_the_context_of_the_caller_is_there_and_what_is_set_in_it_stays_there(app):
    variable = contextvars.ContextVar("variable", default="")
    variable.set("the caller's")

    def send(_: Any) -> str:
        seen = variable.get()
        variable.set("the thread's")
        return seen

    assert await publish(app, "tasks.run", send, {}, 10) == "the caller's"
    assert variable.get() == "the caller's"


async def test_sends_use_few_threads(app):
    before = threading.active_count()
    await asyncio.gather(*(publish(app, "tasks.run", lambda _: None, {}, 10) for _ in range(500)))
    assert threading.active_count() - before <= THREADS


async def test_messages_of_one_coroutine_keep_their_order(container, sent):
    client = container(Client).get(Client)
    for number in range(50):
        await client.run(number)
    assert [message.kwargs or message.args for message in sent()] == [[number] for number in range(50)]


async def test_an_app_that_is_made_when_it_is_first_used_sends_as_well(app, sent):
    @factory
    class Apps:
        @provides(Celery, lazy=True)
        def app(self) -> Celery:
            return app

    application = ModuleType("application")
    vars(application).update(Client=Client, Apps=Apps)
    client = init(modules=["pico_celery_client", application]).get(Client)
    result = await client.run(1)
    assert [message.id for message in sent()] == [result.id]
    result.backend.store_result(result.id, "done", "SUCCESS")
    assert await result == "done"


def test_several_loops_may_send_at_once_in_threads(container, sent):
    client = container(Client).get(Client)

    def run(number: int) -> str:
        return asyncio.run(client.run(number)).id

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(run, range(40)))
    assert sorted(ids) == sorted(message.id for message in sent())


def test_uvloop_sends_as_well(container, sent):
    uvloop = pytest.importorskip("uvloop")
    client = container(Client).get(Client)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(client.run(1))
    assert [message.id for message in sent()] == [result.id]


# Brokers that refuse, hang, and come back


# Celery by itself would take longer: over a minute for a connection, for ever for an answer. In seconds.
PROMPTLY = 60


Connect = Callable[..., Client]


@pytest.fixture
def connect(container, sending_app) -> Connect:
    """Make a client whose broker and result backend are elsewhere."""

    def connect(broker: str, backend: str = "disabled://", timeout: float = 60) -> Client:
        app = sending_app(broker, backend, pico_publish_timeout=timeout, broker_connection_timeout=timeout / 2)
        return container(Client, overrides={Celery: app}).get(Client)

    return connect


async def failure(client: Client) -> Exception:
    """Return what sending raises, promptly and while other coroutines go on."""
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.001)
            turns += 1

    others = asyncio.ensure_future(take_turns())
    async with asyncio.timeout(PROMPTLY):
        with pytest.raises((OperationalError, PublishTimeoutError)) as error:
            await client.run()
    others.cancel()
    assert turns > 3, "the loop was held up while the message was sent"
    return error.value


URLS = {"redis": "redis://:secret@127.0.0.1:{}/0", "amqp": "amqp://user:secret@127.0.0.1:{}//"}


@pytest.mark.parametrize("kind", URLS)
async def test_a_broker_that_refuses_is_named_with_its_address_and_without_its_password(connect, kind):
    port = free_port()
    error = await failure(connect(URLS[kind].format(port)))
    assert isinstance(error, OperationalError)
    assert "refused" in str(error)
    assert f"127.0.0.1:{port}" in str(error)
    assert "secret" not in str(error)


@pytest.mark.parametrize("kind", URLS)
@pytest.mark.parametrize("server", [silent_server, unreachable_server])
async def test_a_broker_that_does_not_answer_fails_the_send_by_the_deadline(connect, kind, server):
    with server() as port:
        error = await failure(connect(URLS[kind].format(port), timeout=0.8))
    assert f"127.0.0.1:{port}" in str(error)
    assert "secret" not in str(error)


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("name", ["run", "run_now"])
async def test_a_redis_that_refuses_writes_is_named_with_what_it_says(connect, name, refusal):
    async def send() -> None:
        sent = getattr(client, name)()
        if name == "run":
            await sent

    with own_redis() as server:
        client = connect(server.url)
        await send()
        server.refuse_writes(refusal)
        with pytest.raises(OperationalError, match=r"Sending task 'tasks\.run' to redis://.+") as error:
            await send()
        assert isinstance(error.value.__cause__.__cause__, ResponseError)
        server.take_writes()
        await send()


@pytest.mark.parametrize("name", ["run", "run_now"])
@pytest.mark.parametrize("error", [InconsistencyError("the bindings are gone"), ConnectionResetError("lost")])
async def test_what_is_lost_while_a_queue_is_declared_is_found_again(connect, redis_url, monkeypatch, name, error):
    """kombu's own producer would publish by the channel that was closed."""
    bind = Channel.queue_bind
    errors = [error]

    def lose_once(*args: Any, **kwargs: Any) -> Any:
        if errors:
            raise errors.pop()
        return bind(*args, **kwargs)

    monkeypatch.setattr(Channel, "queue_bind", lose_once)
    client = connect(redis_url)
    sent = getattr(client, name)()
    result = await sent if name == "run" else sent
    assert result.id
    assert errors == []


async def test_at_the_deadline_the_error_tells_what_has_gone_wrong_so_far(connect):
    client = with_options(
        connect(f"redis://127.0.0.1:{free_port()}/0"),
        publish_timeout=1,
        retry_policy={"max_retries": None, "interval_start": 0.01, "interval_max": 0.01},
    )
    error = await failure(client)
    assert isinstance(error, PublishTimeoutError)
    assert "Connection refused" in str(error)
    assert error.__cause__ is not None


async def test_the_retry_policys_own_errback_is_called_after_each_attempt(connect):
    errors = []
    policy = {"max_retries": 1, "interval_start": 0, "errback": lambda error, pause: errors.append((error, pause))}
    client = with_options(connect(f"redis://127.0.0.1:{free_port()}/0"), retry_policy=policy)
    with pytest.raises(OperationalError):
        await client.run()
    assert errors
    assert all("refused" in str(error) and pause == 0 for error, pause in errors)


async def test_threads_that_hung_are_there_again_when_the_broker_is(connect, redis_url):
    with silent_server() as port:
        hanging = connect(f"redis://127.0.0.1:{port}/0", timeout=0.8)
        errors = await asyncio.gather(*(hanging.run() for _ in range(20)), return_exceptions=True)
        # The deadline and the connection's own time-out are the same: on a busy machine either may come first.
        assert {type(error) for error in errors} <= {PublishTimeoutError, OperationalError}
        result = await connect(redis_url).run()
    assert result.id


@pytest.mark.parametrize("send", ["run", "run_now"])
async def test_a_result_backend_that_is_away_does_not_hold_up_a_send(connect, redis_url, send):
    """Celery's Redis backend would try for 19 seconds to subscribe to the result."""
    client = connect(redis_url, f"redis://127.0.0.1:{free_port()}/0")
    async with asyncio.timeout(15):
        result = await client.run() if send == "run" else await asyncio.to_thread(client.run_now)
        del result


@pytest.mark.parametrize("send", ["run", "run_now"])
@pytest.mark.parametrize(
    ("url", "hint"),
    [
        (lambda url: url.replace(":guest@", ":s3cret@"), "ACCESS_REFUSED.*Check user and password in broker_url"),
        (lambda url: url.rstrip("/") + "/nope", "vhost nope not found. Check the virtual host"),
    ],
    ids=["password", "virtual host"],
)
async def test_rabbitmqs_refusal_names_the_broker_and_what_to_check(connect, rabbitmq_url, send, url, hint):
    client = connect(url(rabbitmq_url))
    with pytest.raises(OperationalError, match=rf"Sending task 'tasks.run' to amqp://guest:\*\*@.*{hint}") as error:
        await client.run() if send == "run" else await asyncio.to_thread(client.run_now)
    assert "s3cret" not in str(error.value)


async def test_a_broker_without_tls_is_told_where_the_url_asks_for_it(connect, redis_url):
    url = redis_url.replace("redis://", "rediss://") + "?ssl_cert_reqs=none"
    error = await failure(connect(url, timeout=0.8))
    assert "rediss:// in broker_url means TLS" in str(error)


@pytest.mark.parametrize("send", ["run", "run_now"])
async def test_a_stub_subscribes_to_nothing(connect, redis_url, send):
    client = connect(redis_url, redis_url)
    result = await client.run() if send == "run" else await asyncio.to_thread(client.run_now)
    assert not result.backend.result_consumer.subscribed_to
    assert result.backend.client.pubsub_numsub(result.backend.get_key_for_task(result.id))[0][1] == 0


async def test_a_broker_that_comes_back_gets_what_is_sent_then(connect):
    with own_redis() as server:
        client = connect(server.url)
        await client.run(1)
        server.stop()
        with pytest.raises(OperationalError):
            await client.run(2)
        server.start()
        await client.run(3)
        with server.client() as redis:
            assert redis.llen("celery") == 2


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_sends_over_connections_of_its_own(connect, redis_url):
    client = connect(redis_url)
    asyncio.run(client.run(1))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            asyncio.run(client.run(2))
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    asyncio.run(client.run(3))
