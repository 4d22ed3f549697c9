"""Listening for results: on Redis by one subscription, on other backends by one poller."""

import asyncio
import gc
import statistics
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, states
from celery.app.task import Context
from redis import asyncio as redis_asyncio

from pico_celery_client import TaskResult, as_completed, gather_results
from pico_celery_client.results import listener as listening
from pico_celery_client.results import polling as poller
from pico_celery_client.results import redis as redis_listener
from pico_celery_client.results.listener import listener_for
from pico_celery_client.results.redis import connection_pool
from pico_celery_core.errors import (
    ListeningCancelledError,
    ResultBackendError,
    ResultTimeoutError,
    ResultTypeError,
)
from pico_celery_core.failures.backend import store_failures_in_full
from pico_celery_core.progress import PROGRESS, Progress
from tests.servers import own_redis
from tests.services import postgres_database, rabbitmq_queue, rabbitmq_url, redis_database
from tests.waiting import eventually, until

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*setex.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*RPC.*:PendingDeprecationWarning"),
]

Store = Callable[..., None]


def make_app(broker: str = "memory://", **settings: Any) -> Celery:
    app = Celery("tests", broker=broker, set_as_current=False)
    app.conf.update(**settings)
    return app


def new_result(app: Celery) -> TaskResult[Any]:
    return TaskResult(str(uuid.uuid4()), app=app)


def store(result: TaskResult[Any], value: Any, state: str = states.SUCCESS) -> None:
    """Store a state as a worker does."""
    request = Context(reply_to=result.reply_to, correlation_id=result.id)
    # A worker's is another connection than that of the waiting process.
    backend = Celery("worker", broker=result.app.conf.broker_url, set_as_current=False)
    backend.conf.update(result.app.conf.changes)
    backend.backend.store_result(result.id, value, state, request=request)
    with suppress(AttributeError):
        backend.backend.client.close()
    backend.close()


BACKENDS = ["redis", "memory", "files", "sqlite", "postgresql", "rpc"]


@pytest.fixture(
    params=[
        pytest.param(name, marks=[pytest.mark.services] if name in ("redis", "postgresql", "rpc") else [])
        for name in BACKENDS
    ]
)
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Celery]:
    """An app with each kind of result backend."""
    match request.param:
        case "redis":
            with redis_database() as url:
                yield make_app(result_backend=url)
        case "memory":
            yield make_app(result_backend="cache+memory://")
        case "files":
            yield make_app(result_backend=f"file://{tmp_path}")
        case "sqlite":
            yield make_app(result_backend=f"db+sqlite:///{tmp_path}/results.db")
        case "postgresql":
            with postgres_database() as dsn:
                yield make_app(result_backend=dsn.replace("postgresql://", "db+postgresql+psycopg://"))
        case "rpc":
            with rabbitmq_queue() as name:
                yield make_app(rabbitmq_url(), result_backend="rpc://", task_default_queue=name)


@pytest.fixture
def result(app: Celery) -> TaskResult[Any]:
    result = new_result(app)
    if result.reply_to:  # what sending would do
        with app.producer_or_acquire() as producer:
            app.backend.on_task_call(producer, result.id)
    return result


async def test_a_value_that_is_stored_later_arrives(result):
    waiting = asyncio.ensure_future(result.wait())
    await until(lambda: listener_for(result.app).results)
    await asyncio.to_thread(store, result, {"answer": 42})
    assert await asyncio.wait_for(waiting, 60) == {"answer": 42}


async def test_a_value_that_is_there_already_arrives(result):
    await asyncio.to_thread(store, result, "there")
    assert await result.wait(timeout=60) == "there"
    assert await result == "there"
    assert result.ready()


async def test_what_the_task_raised_is_raised(result):
    waiting = asyncio.ensure_future(result.wait())
    await asyncio.to_thread(store, result, ValueError("no such user"), states.FAILURE)
    with pytest.raises(ValueError, match="no such user"):
        await asyncio.wait_for(waiting, 60)


async def test_details_of_progress_are_of_the_type_that_is_asked_for(result):
    seen: list[timedelta | None] = []

    async def follow() -> None:
        async for step in result.progress(timedelta):
            seen.append(step.details)  # noqa: PERF401

    following = asyncio.ensure_future(follow())
    await asyncio.to_thread(store, result, Progress(1, 2, details="PT1M").as_meta(), PROGRESS)
    await until(lambda: seen)
    await asyncio.to_thread(store, result, Progress(2, 2, details="long").as_meta(), PROGRESS)
    with pytest.raises(ResultTypeError, match="timedelta, which its reader declares"):
        await asyncio.wait_for(following, 60)
    assert seen == [timedelta(minutes=1)]


async def test_progress_is_followed_to_the_end(result):
    seen: list[Progress] = []

    async def follow() -> None:
        async for step in result.progress():
            seen.append(step)  # noqa: PERF401

    following = asyncio.ensure_future(follow())
    for number in (1, 2):
        await asyncio.to_thread(store, result, Progress(number, 2, "working").as_meta(), PROGRESS)
        await until(lambda number=number: len(seen) == number)
    await asyncio.to_thread(store, result, "done")
    await asyncio.wait_for(following, 60)
    assert [(step.current, step.total, step.message) for step in seen] == [(1, 2, "working"), (2, 2, "working")]
    assert await result == "done"


@pytest.mark.parametrize(("latest", "rest"), [(False, [2, 3, 4, 5]), (True, [4, 5])])
async def test_of_steps_that_wait_all_come_in_order_or_the_latest_alone(memory_app, latest, rest):
    result = new_result(memory_app)
    store(result, Progress(1, 5, "").as_meta(), PROGRESS)
    steps = result.progress(latest=latest)
    seen = [(await anext(steps)).current]

    def deliver(*numbers: int) -> None:
        for number in numbers:
            meta = {"status": PROGRESS, "result": Progress(number, 5, "").as_meta()}
            listener_for(memory_app).deliver(result.id, meta)

    deliver(2, 3, 4)
    while seen[-1] != 4:
        seen.append((await anext(steps)).current)
    deliver(5)
    seen.append((await anext(steps)).current)
    assert seen == [1, *rest]
    deliver(6)
    listener_for(memory_app).deliver(result.id, {"status": states.SUCCESS, "result": "done"})
    assert [step.current async for step in steps] == ([] if latest else [6])
    assert await result == "done"


async def test_all_who_wait_for_one_task_get_its_value(result):
    waiting = [asyncio.ensure_future(result.wait()) for _ in range(5)]
    await until(lambda: listener_for(result.app).results)
    await asyncio.to_thread(store, result, "shared")
    assert await asyncio.wait_for(asyncio.gather(*waiting), 60) == ["shared"] * 5


async def test_who_gives_up_leaves_nothing_behind(result):
    waiting = asyncio.ensure_future(result.wait())
    listener = listener_for(result.app)
    await until(lambda: listener.results)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(TimeoutError, match=f"Task {result.id} had no result after"):
        await result.wait(timeout=0.03)
    assert not listener.results
    assert not listener._queues


def listening_task() -> asyncio.Task[None] | None:
    return next((task for task in asyncio.all_tasks() if task.get_name() == "pico-celery results"), None)


@pytest.mark.parametrize("begun", [True, False])
async def test_who_waits_is_told_when_what_listens_is_cancelled_alone(app, begun):
    result = new_result(app)
    waiting = asyncio.ensure_future(result.wait())
    await asyncio.sleep(0)
    if begun:
        await asyncio.sleep(0)
    listening = listening_task()
    listening.cancel()
    with pytest.raises(ListeningCancelledError, match=r"'pico-celery results'.* Await the result again"):
        await asyncio.wait_for(waiting, 60)
    assert listening.cancelled()
    if not result.reply_to:
        await asyncio.to_thread(store, result, "done")
        assert await result.wait(timeout=60) == "done"
    await end_listener()


# Backends that are polled


@pytest.fixture
def memory_app() -> Celery:
    return make_app(result_backend="cache+memory://")


async def test_who_comes_when_another_has_just_got_the_value_gets_it_too(memory_app):
    first = new_result(memory_app)
    store(first, "done")
    for _ in range(50):
        assert await TaskResult(first.id, app=memory_app).wait(timeout=60) == "done"


async def test_a_newcomer_need_not_wait_until_others_are_asked_for_again(memory_app, monkeypatch):
    monkeypatch.setattr(poller, "_POLL", (30, 30))
    waiting = asyncio.ensure_future(new_result(memory_app).wait())
    await until(lambda: listener_for(memory_app).results)
    await asyncio.sleep(0)
    ready = new_result(memory_app)
    store(ready, "done")
    assert await ready.wait(timeout=60) == "done"
    waiting.cancel()


def spy_on_polling(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list of the tasks that are asked for, which grows."""
    asked: list[str] = []
    fetch = poller.Poller._fetch

    def spy(self: Any, results: dict[str, Any]) -> Any:
        asked.extend(results)
        return fetch(self, results)

    monkeypatch.setattr(poller.Poller, "_fetch", spy)
    return asked


async def assert_asked_less_and_less_often(result: TaskResult[Any], asked: list[str]) -> None:
    """Check that there are no more questions than the pauses between them, which `_POLL` sets, leave time for."""
    began = time.perf_counter()
    waiting = asyncio.ensure_future(result.wait())
    await until(lambda: len(asked) >= 15)
    waiting.cancel()
    # Before its tenth question a task has been waited for with pauses that grow from 1 to 50 ms.
    assert len(asked) <= 10 + (time.perf_counter() - began) / 0.05


async def test_polling_backs_off_and_asks_for_nobody_who_has_gone(memory_app, monkeypatch):
    asked = spy_on_polling(monkeypatch)
    monkeypatch.setattr(poller, "_POLL", (0.001, 0.05))
    await assert_asked_less_and_less_often(new_result(memory_app), asked)
    asked.clear()
    other = new_result(memory_app)
    with pytest.raises(TimeoutError):
        await other.wait(timeout=0.1)
    assert set(asked) == {other.id}


async def test_a_backend_that_fails_tells_those_who_wait(memory_app, monkeypatch):
    def fail(self: Any, task_id: str) -> None:
        raise LookupError("the backend is broken")

    monkeypatch.setattr(type(memory_app.backend), "get_task_meta", fail)
    with pytest.raises(LookupError, match="the backend is broken"):
        await new_result(memory_app).wait(timeout=60)


async def test_without_a_result_backend_waiting_says_so():
    with pytest.raises(NotImplementedError, match="No result backend is configured"):
        await new_result(make_app(result_backend="disabled://")).wait(timeout=60)


async def test_the_loop_goes_on_while_a_backend_is_slow(memory_app, monkeypatch):
    asked, answer = threading.Event(), threading.Event()

    def slow(self: Any, task_id: str) -> dict[str, Any]:
        asked.set()
        answer.wait(60)
        return {"status": states.SUCCESS, "result": "late", "task_id": task_id}

    monkeypatch.setattr(type(memory_app.backend), "get_task_meta", slow)
    waiting = asyncio.ensure_future(new_result(memory_app).wait())
    await until(asked.is_set)
    answer.set()
    assert await waiting == "late"


async def test_a_task_that_is_to_be_tried_again_is_asked_for_less_and_less_often(memory_app, monkeypatch):
    asked = spy_on_polling(monkeypatch)
    monkeypatch.setattr(poller, "_POLL", (0.001, 0.05))
    result = new_result(memory_app)
    store(result, ValueError("try again"), states.RETRY)
    await assert_asked_less_and_less_often(result, asked)


class Array:
    """As those of numpy, it does not say whether it equals another."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("ambiguous")

    __hash__ = None


async def test_a_value_that_cannot_be_compared_harms_nobody(memory_app, monkeypatch):
    memory_app.conf.update(result_serializer="pickle", accept_content=["pickle"])
    asked = spy_on_polling(monkeypatch)
    result, other = new_result(memory_app), new_result(memory_app)
    store(result, Progress(1, 2).as_meta(), PROGRESS)
    waiting = asyncio.ensure_future(other.wait(timeout=60))
    async for _ in result.progress():
        store(result, Array())
        asked.clear()
        await until(lambda: asked.count(result.id) > 2)
    assert isinstance(await result, Array)
    store(other, "done")
    assert await waiting == "done"


async def test_a_listener_without_work_ends(app, monkeypatch):
    monkeypatch.setattr(redis_listener, "_LINGER", 0.01)
    with pytest.raises(TimeoutError):
        await new_result(app).wait(timeout=0.05)
    await until(lambda: not listening_task())
    with pytest.raises(TimeoutError):
        await new_result(app).wait(timeout=0.05)


def test_a_loop_may_be_closed_when_a_polled_result_has_come(memory_app):
    loop = asyncio.new_event_loop()
    store(result := new_result(memory_app), "done")
    assert loop.run_until_complete(result.wait()) == "done"
    assert not asyncio.all_tasks(loop)
    loop.close()


async def test_a_reply_by_rpc_that_came_with_another_is_kept_for_who_asks_later(rabbitmq_url, rabbitmq_queue):
    app = make_app(rabbitmq_url, result_backend="rpc://", task_default_queue=rabbitmq_queue)
    results = [new_result(app) for _ in range(2)]
    with app.producer_or_acquire() as producer:
        app.backend.on_task_call(producer, results[0].id)
    for result in results:
        await asyncio.to_thread(store, result, result.id)
    for result in results:
        assert await result.wait(timeout=60) == result.id
        await until(lambda: not listening_task())
        gc.collect()
    app.close()


def test_uvloop_and_several_loops_after_each_other(memory_app):
    uvloop = pytest.importorskip("uvloop")
    result = new_result(memory_app)
    store(result, "done")
    for factory in (asyncio.new_event_loop, uvloop.new_event_loop) * 2:
        with asyncio.Runner(loop_factory=factory) as runner:
            assert runner.run(TaskResult(result.id, app=memory_app).wait(timeout=60)) == "done"

    def is_nothing_left() -> bool:
        gc.collect()
        return not list(listening._listeners)

    eventually(is_nothing_left)  # the polling thread may still be letting go of what it has answered


# gather_results


async def test_gathered_results_come_in_the_order_of_the_calls(memory_app):
    results = [new_result(memory_app) for _ in range(5)]
    waiting = asyncio.ensure_future(gather_results(*results, timeout=60))
    for number, result in reversed(list(enumerate(results))):
        store(result, number)
        await asyncio.sleep(0)
    assert await waiting == [0, 1, 2, 3, 4]


async def test_the_first_to_fail_ends_the_gathering_with_its_own_error(memory_app):
    results = [new_result(memory_app) for _ in range(3)]
    store(results[1], ValueError("no such user"), states.FAILURE)
    with pytest.raises(ValueError, match="no such user") as error:
        await gather_results(*results)
    assert not isinstance(error.value.__context__, BaseExceptionGroup)
    assert not listener_for(memory_app).results


async def test_gathering_has_a_timeout_altogether(memory_app):
    with pytest.raises(TimeoutError):
        await gather_results(*[new_result(memory_app) for _ in range(3)], timeout=0.05)
    assert not listener_for(memory_app).results


async def test_exceptions_can_be_gathered_like_values(memory_app):
    results = [new_result(memory_app) for _ in range(3)]
    store(results[0], "done")
    store(results[1], ValueError("no such user"), states.FAILURE)
    for result in results[:2]:
        await result.until_ready()  # what is known has no need to be in time
    value, failed, late = await gather_results(*results, timeout=0.05, return_exceptions=True)
    assert value == "done"
    assert (type(failed), str(failed)) == (ValueError, "no such user")
    assert isinstance(late, ResultTimeoutError)
    assert not listener_for(memory_app).results


# as_completed


async def test_results_come_in_the_order_in_which_they_end(memory_app):
    results = [new_result(memory_app) for _ in range(4)]
    ended = []
    store(results[2], 2)
    async for result in as_completed(results, timeout=60):
        ended.append((result, await result))
        left = [other for other in reversed(results) if other not in [one for one, _ in ended]]
        if left:
            store(left[0], results.index(left[0]))
    assert ended == [(results[number], number) for number in (2, 3, 1, 0)]


async def test_a_result_that_failed_comes_as_any_and_raises_when_it_is_awaited(memory_app):
    result = new_result(memory_app)
    store(result, ValueError("no such user"), states.FAILURE)
    async for ended in as_completed([result, result]):
        assert ended is result
        with pytest.raises(ValueError, match="no such user"):
            await ended


async def test_those_that_do_not_end_in_time_raise_after_those_that_do(memory_app):
    results = [new_result(memory_app) for _ in range(3)]
    store(results[1], "done")
    await results[1]  # what is known has no need to be in time
    ended = as_completed(results, timeout=0.05)
    assert await anext(ended) is results[1]
    with pytest.raises(ResultTimeoutError):
        await anext(ended)
    assert not listener_for(memory_app).results


async def test_whoever_stops_early_waits_for_none_any_more(memory_app):
    results = [new_result(memory_app) for _ in range(3)]
    store(results[1], "done")
    ended = as_completed(results)
    assert await anext(ended) is results[1]
    await ended.aclose()
    assert not listener_for(memory_app).results
    assert [result async for result in as_completed([])] == []


# Redis


@pytest.fixture
def redis_app(redis_url: str) -> Iterator[Celery]:
    app = make_app(result_backend=redis_url)
    yield app
    app.backend.client.close()


def connections(app: Celery) -> list[dict[str, str]]:
    """Return the connections to an app's own database; other tests may use the server as well."""
    database = str(app.backend.connparams["db"])
    return [client for client in app.backend.client.client_list() if client["db"] == database]


def listener_connections(app: Celery) -> list[dict[str, str]]:
    return [client for client in connections(app) if client["sub"] != "0"]


async def test_a_result_that_is_stored_at_any_step_of_subscribing_arrives(redis_app, monkeypatch):
    """The steps are those of the listener: whatever talks to Redis, before and after."""
    arrived = []
    for step in range(100):
        result = new_result(redis_app)
        steps = iter(range(100))

        def passes(result: TaskResult[Any] = result, steps: Iterator[int] = steps, step: int = step) -> None:
            if next(steps) == step:
                result.backend.store_result(result.id, step, states.SUCCESS)

        def stepping(method: Callable[..., Any], passes: Callable[[], None] = passes) -> Callable[..., Any]:
            async def call(*args: Any, **kwargs: Any) -> Any:
                passes()
                value = await method(*args, **kwargs)
                passes()
                return value

            return call

        with monkeypatch.context() as patch:
            patch.setattr(redis_asyncio.Redis, "mget", stepping(redis_asyncio.Redis.mget))
            for name in ("subscribe", "unsubscribe", "parse_response"):
                patch.setattr(redis_asyncio.client.PubSub, name, stepping(getattr(redis_asyncio.client.PubSub, name)))
            try:
                arrived.append(await result.wait(timeout=5))
            except TimeoutError:
                break
    # Every step was tried: after the last there was nothing left to do but wait.
    assert arrived == list(range(len(arrived)))
    assert len(arrived) >= 6


# redis-py does not always close the stream of a connection that the server has ended, and says so when it is collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", ["pubsub", "normal"])
async def test_a_lost_connection_loses_no_result(kind):
    with own_redis() as server:
        app = make_app(result_backend=server.url)
        results = [new_result(app) for _ in range(50)]
        waiting = asyncio.ensure_future(gather_results(*results, timeout=20))
        await until(lambda: any(int(client["sub"]) > 50 for client in listener_connections(app)))
        killed = 0
        for number, result in enumerate(results):
            if number % 10 == 0:
                killed += app.backend.client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
            app.backend.store_result(result.id, number, states.SUCCESS)
            await asyncio.sleep(0.001)
        assert await waiting == list(range(50))
        assert killed
        await end_listener()


async def test_a_server_that_is_stopped_and_started_again_is_found_again(monkeypatch, caplog):
    monkeypatch.setattr(redis_listener, "_RECONNECT", (0.01, 0.05))
    with own_redis() as server:
        app = make_app(result_backend=server.url)
        results = [new_result(app) for _ in range(3)]
        store(results[0], "before")
        assert await results[0] == "before"
        waiting = asyncio.ensure_future(gather_results(*results[1:], timeout=30))
        await until(lambda: listener_connections(app))
        server.stop()
        await until(lambda: "Lost the result backend" in caplog.text)
        assert not waiting.done()
        server.start()
        for result in results[1:]:
            await asyncio.to_thread(store, result, "after")
        assert await waiting == ["after", "after"]
        await end_listener()


# As above: redis-py does not always close its stream.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_server_that_goes_while_nobody_waits_is_left_alone(caplog):
    with own_redis() as server:
        app = make_app(result_backend=server.url)
        store(result := new_result(app), "done")
        assert await result == "done"
        await until(lambda: listener_connections(app))
        server.stop()
        await until(lambda: not listening_task())
    assert "Lost the result backend" not in caplog.text


async def end_listener() -> None:
    task = listening_task()
    if task:
        task.cancel()
        await asyncio.wait([task])


async def test_a_server_with_a_password_is_listened_to():
    with own_redis("s3cret") as server:
        app = make_app(result_backend=server.url)
        result = new_result(app)
        waiting = asyncio.ensure_future(result.wait(timeout=60))
        await until(lambda: listener_connections(app))
        await asyncio.to_thread(store, result, "done")
        assert await waiting == "done"
        await end_listener()


async def test_a_wrong_password_is_told_to_those_who_wait(caplog):
    with own_redis("s3cret") as server:
        app = make_app(result_backend=server.url.replace("s3cret", "wrong"))
        store_failures_in_full(app)
        with pytest.raises(ResultBackendError, match=r"Check user and password in backend_url\.$") as error:
            await new_result(app).wait(timeout=60)
        with pytest.raises(ResultBackendError, match=f":{server.port}/0 refuses the connection"):
            await asyncio.to_thread(new_result(app).get)
    assert "s3cret" not in caplog.text + str(error.value)
    assert "Traceback" not in caplog.text


async def test_a_channel_is_left_when_nobody_waits_for_it_any_more(redis_app):
    kept, left = new_result(redis_app), new_result(redis_app)
    keys = [redis_app.backend.get_key_for_task(result.id) for result in (kept, left)]
    waiting = [asyncio.ensure_future(result.wait()) for result in (kept, left)]

    def subscribers() -> list[int]:
        return [count for _, count in redis_app.backend.client.pubsub_numsub(*keys)]

    await until(lambda: subscribers() == [1, 1])
    waiting[1].cancel()
    await until(lambda: subscribers() == [1, 0])
    await asyncio.to_thread(store, kept, "done")
    assert await waiting[0] == "done"
    await until(lambda: subscribers() == [0, 0])


async def test_who_comes_back_to_a_task_is_told_what_was_stored_meanwhile(redis_app):
    result = new_result(redis_app)
    for _ in range(20):
        with suppress(TimeoutError):
            await result.wait(timeout=0.003)
    store(result, "done")
    assert await result.wait(timeout=60) == "done"


async def test_ten_thousand_waiters_share_one_subscription_and_are_woken_at_once(redis_app, record_property):
    backend = redis_app.backend
    results = [new_result(redis_app) for _ in range(10_000)]
    before = len(connections(redis_app))
    threads = threading.active_count()
    woken: dict[str, float] = {}

    async def wait(result: TaskResult[Any]) -> Any:
        value = await result
        woken[result.id] = time.perf_counter()
        return value

    waiting = [asyncio.ensure_future(wait(result)) for result in results]
    await until(lambda: any(int(client["sub"]) > 10_000 for client in listener_connections(redis_app)), 40)
    assert len(connections(redis_app)) - before <= 2
    assert threading.active_count() - threads <= 1  # the event loop's, which has looked up the host's address
    assert len(asyncio.all_tasks()) <= 10_000 + 5

    stored: dict[str, float] = {}

    def complete() -> None:
        for number, result in enumerate(results):
            key = backend.get_key_for_task(result.id)
            meta = backend.encode({"status": states.SUCCESS, "result": number, "task_id": result.id})
            with backend.client.pipeline() as pipe:
                pipe.set(key, meta, ex=60).publish(key, meta)
                stored[result.id] = time.perf_counter()
                pipe.execute()

    await asyncio.to_thread(complete)
    assert await asyncio.wait_for(asyncio.gather(*waiting), 60) == list(range(10_000))
    delays = sorted(woken[task_id] - stored[task_id] for task_id in stored)
    median, p99 = statistics.median(delays), delays[int(len(delays) * 0.99)]
    record_property("median_seconds", median)
    record_property("p99_seconds", p99)
    print(f"from completion to wake-up: median {median * 1000:.2f} ms, 99 % {p99 * 1000:.2f} ms")  # noqa: T201
    assert median < 5


def test_nothing_is_left_behind_by_loops_that_end_in_any_way(redis_url):
    """In development mode Python tells of what is left open."""
    script = f"""
        import asyncio, gc, logging, warnings
        from celery import Celery
        from pico_celery_client import TaskResult

        warnings.filterwarnings("ignore", message=".*setex.*")
        logging.getLogger("asyncio").setLevel(logging.ERROR)
        app = Celery("tests", backend={redis_url!r})
        async def some():
            app.backend.store_result("ready", 1, "SUCCESS")
            assert await TaskResult("ready", app=app) == 1
            waiting = asyncio.ensure_future(TaskResult("never", app=app).wait())
            try:
                await TaskResult("never", app=app).wait(timeout=0.05)
            except TimeoutError:
                pass
            return waiting

        for _ in range(3):
            asyncio.run(some())
        gc.collect()

        loop = asyncio.new_event_loop()
        waiting = loop.run_until_complete(some())
        waiting.cancel()
        loop.run_until_complete(asyncio.wait([waiting]))
        for task in asyncio.all_tasks(loop):
            task.cancel()
            loop.run_until_complete(asyncio.wait([task]))
        loop.close()
        app.backend.client.close()
        print("done")
    """
    command = [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_a_loop_that_is_closed_while_somebody_waits_is_forgotten(redis_url, caplog):
    app = make_app(result_backend=redis_url)
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(new_result(app).wait())
    loop.run_until_complete(asyncio.sleep(0.05))
    assert listening._listeners
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0.05))
    assert waiting.cancelled()
    loop.close()
    del waiting, task, loop

    def is_nothing_left() -> bool:
        gc.collect()
        return not list(listening._listeners)

    eventually(is_nothing_left)  # the polling thread may still be letting go of what it has answered


# How the connection is made


CONNECTIONS = {
    "plain": ("redis://:pw@somewhere:6380/3", {"host": "somewhere", "port": 6380, "db": 3, "password": "pw"}),
    "user": ("redis://ada:pw@somewhere/3", {"username": "ada", "password": "pw"}),
    "socket": ("redis+socket:///run/redis.sock?virtual_host=2", {"path": "/run/redis.sock", "db": 2}),
    "TLS": (
        "rediss://:pw@somewhere:6380/0?ssl_cert_reqs=required&ssl_ca_certs=%2Fca.pem",
        {"host": "somewhere", "password": "pw", "ssl_ca_certs": "/ca.pem"},
    ),
}
KINDS = {
    "plain": redis_asyncio.Connection,
    "user": redis_asyncio.Connection,
    "socket": redis_asyncio.UnixDomainSocketConnection,
    "TLS": redis_asyncio.SSLConnection,
}


@pytest.mark.parametrize("name", CONNECTIONS)
def test_the_asyncio_connection_has_the_parameters_of_celerys(name):
    url, expected = CONNECTIONS[name]
    app = make_app(result_backend=url)
    pool = connection_pool(app.backend.connparams)
    assert pool.connection_class is KINDS[name]
    assert expected.items() <= pool.connection_kwargs.items()
    pool.make_connection()
    assert pool.connection_kwargs["socket_timeout"] is None


def test_the_backends_own_tls_settings_are_taken():
    settings = {"ssl_cert_reqs": "required", "ssl_certfile": "/c.pem", "ssl_keyfile": "/k.pem"}
    app = make_app(result_backend="rediss://somewhere/0", redis_backend_use_ssl=settings)
    connection = connection_pool(app.backend.connparams).make_connection()
    assert (connection.certfile, connection.keyfile) == ("/c.pem", "/k.pem")


def test_the_applications_own_settings_win():
    app = make_app(result_backend="redis://somewhere/0", redis_socket_connect_timeout=3, redis_client_name="shop")
    pool = connection_pool(app.backend.connparams)
    assert pool.connection_kwargs["socket_connect_timeout"] == 3
    assert pool.connection_kwargs["client_name"] == "shop"


@pytest.mark.skipif(sys.platform != "linux", reason="the options have other names elsewhere")
def test_a_server_that_vanishes_is_noticed():
    options = connection_pool(make_app(result_backend="redis://somewhere/0").backend.connparams).connection_kwargs
    assert options["socket_keepalive"] is True
    assert len(options["socket_keepalive_options"]) == 4
