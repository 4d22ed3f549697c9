"""The result backend of a worker outlasts refusals: a final state is stored in the end, any other if it can be."""

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery import Celery, states
from celery.app.task import Context
from celery.app.trace import build_tracer
from celery.backends.base import KeyValueStoreBackend
from celery.backends.database import DatabaseBackend
from celery.backends.redis import RedisBackend, SentinelBackend
from celery.backends.rpc import RPCBackend
from celery.exceptions import BackendStoreError, Reject
from celery.worker import state
from gevent import Timeout
from kombu.exceptions import EncodeError
from sqlalchemy.exc import StatementError

from pico_celery_client.results.listener import listener_for
from pico_celery_client.results.redis import RedisListener
from pico_celery_worker.consumer import attempts
from pico_celery_worker.consumer import results as module
from pico_celery_worker.consumer.results import outlast_refusals
from tests.servers import free_port
from tests.waiting import eventually

RefusedError = type("RefusedError", (Exception,), {})


class Store(KeyValueStoreBackend):  # type: ignore[misc]
    """Keeps results, unless it refuses them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kept: dict[Any, Any] = {}
        self.attempts: list[str] = []
        self.refuse: Callable[[str], BaseException | None] = lambda state: None
        self.thread_safe = True

    def get(self, key: Any) -> Any:
        return self.kept.get(key)

    def _set_with_state(self, key: Any, value: Any, state: str) -> None:
        self.attempts.append(state)
        refusal = self.refuse(state)
        if refusal is not None:
            raise refusal
        self.kept[key] = value


@pytest.fixture
def app() -> Iterator[Celery]:
    app = Celery("tests", broker="memory://", set_as_current=False)
    app.backend_cls = Store
    app.conf.update(result_backend_max_sleep_between_retries_ms=1, task_track_started=True)
    outlast_refusals(app)
    yield app
    app.close()


@pytest.fixture
def store(app) -> Any:
    return app.backend


@pytest.fixture(autouse=True)
def _a_task_stores(monkeypatch):
    """What is called in these tests is called by a task, unless one says otherwise."""
    monkeypatch.setattr(module, "_is_consumer", lambda: False)


def refusing(*attempts: int, error: BaseException | None = None) -> Callable[[str], BaseException | None]:
    """Return what refuses the attempts with these numbers, from 0 on."""
    numbers = iter(range(1000))
    return lambda _: (error or RefusedError("OOM")) if next(numbers) in attempts else None


def test_a_state_that_is_not_final_is_left_out_when_it_is_refused(store, caplog):
    store.refuse = refusing(0)
    store.store_result("1", {"pid": 1}, states.STARTED)
    assert store.get_state("1") == states.PENDING
    assert "The state STARTED of task 1 cannot be stored, and is left out: RefusedError: OOM" in caplog.text


@pytest.mark.parametrize("state", [states.STARTED, states.SUCCESS])
def test_what_cannot_be_encoded_is_an_error_at_once(store, state):
    with pytest.raises(EncodeError):
        store.store_result("1", object(), state)
    assert store.attempts == []


def test_what_celery_itself_finds_too_large_is_an_error_at_once(store):
    store.refuse = refusing(0, error=BackendStoreError("value too large"))
    with pytest.raises(BackendStoreError, match="too large"):
        store.store_result("1", "large", states.SUCCESS)


@pytest.mark.parametrize("error", [RefusedError("OOM"), ConnectionError("gone"), TimeoutError("slow")])
@pytest.mark.parametrize("final", [states.SUCCESS, states.REVOKED])
def test_a_final_state_is_stored_in_the_end(store, caplog, error, final):
    store.refuse = refusing(*range(50), error=error)
    store.store_result("1", None, final)
    assert store.get_state("1") == final
    [told] = [record.getMessage() for record in caplog.records]
    assert told.startswith("The result of task 1 cannot be stored in  for now.")
    assert told.endswith(f": {type(error).__name__}: {error}")


def test_what_is_only_refused_of_one_result_is_an_error_of_its_task(store):
    store.refuse = lambda state: RefusedError("too large") if state == states.SUCCESS else None
    with pytest.raises(RefusedError):
        store.store_result("1", "large", states.SUCCESS)
    success, started = states.SUCCESS, states.STARTED
    assert store.attempts == [success, started, success, started, success, started, success]


def test_a_backend_that_comes_and_goes_is_waited_for(store):
    # The probes with odd numbers pass, each result after it is refused; then nothing is taken for a while.
    store.refuse = refusing(0, 2, 4, 5, 7, 9, 10)
    store.store_result("1", "value", states.SUCCESS)
    assert store.get_result("1") == "value"


def test_the_time_limit_of_a_task_is_over_when_its_handler_has_ended(store):
    store.refuse = refusing(0, 1, error=Timeout(1))
    store.store_result("1", "value", states.SUCCESS)
    assert store.get_result("1") == "value"


def test_nor_is_a_result_that_waits_over_it(store, monkeypatch):
    store.refuse = refusing(0, 1)
    limits = iter([Timeout(1), None])

    def sleep(_: float) -> None:
        limit = next(limits)
        if limit is not None:
            raise limit

    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    store.store_result("1", "value", states.SUCCESS)
    assert store.get_result("1") == "value"


def test_whoever_ends_the_worker_does_not_wait_for_results(store, monkeypatch):
    store.refuse = refusing(*range(1000))

    def end() -> None:
        eventually(lambda: len(store.attempts) > 3)
        monkeypatch.setattr(state, "should_terminate", 0)

    ending = threading.Thread(target=end)
    ending.start()
    with pytest.raises(Reject) as rejected:
        store.store_result("1", "value", states.SUCCESS)
    ending.join()
    assert rejected.value.requeue
    assert isinstance(rejected.value.__cause__, RefusedError)


def test_the_consumer_does_not_wait_either(app, store, monkeypatch):
    monkeypatch.setattr(module, "_is_consumer", lambda: threading.current_thread() is threading.main_thread())
    store.refuse = refusing(*range(20))
    store.mark_as_revoked("1", "expired")
    eventually(lambda: store.get_state("1") == states.REVOKED)


def test_the_consumer_is_told_from_a_task_that_runs_in_the_main_thread(app, monkeypatch):
    monkeypatch.undo()
    seen = []
    trace(app, lambda: seen.append(module._is_consumer()))
    thread = threading.Thread(target=lambda: seen.append(module._is_consumer()))
    thread.start()
    thread.join()
    assert (module._is_consumer(), *seen) == (True, False, False)


def trace(app: Celery, run: Callable[[], Any]) -> Any:
    """Run a task as a worker does."""

    def function() -> Any:
        return run()

    task = app.task(function, name="tests.task", shared=False)
    return build_tracer(task.name, task, app=app)("1", (), {}, {"id": "1", "delivery_info": {}})


def test_a_task_runs_whether_its_beginning_can_be_told_or_not(app, store):
    store.refuse = lambda state: RefusedError("OOM") if state == states.STARTED else None
    assert trace(app, lambda: "value").retval == "value"
    assert store.get_result("1") == "value"


def test_celerys_own_backend_does_not_let_it_run(app):
    """Fails when Celery no longer does what all this is for."""
    ran: list[int] = []
    app._backend = Store(app=app)
    app.backend.refuse = lambda state: RefusedError("OOM")
    with pytest.warns(RuntimeWarning, match="outside body"), pytest.raises(RefusedError):
        trace(app, lambda: ran.append(1))
    assert ran == []


def test_a_retry_happens_whether_it_can_be_told_or_not(app, store):
    store.refuse = lambda state: RefusedError("OOM") if state == states.RETRY else None
    store.mark_as_retry("1", ValueError("again"))
    assert store.get_state("1") == states.PENDING


def test_the_log_shows_nothing_of_what_was_to_be_stored(redis_url, store, caplog):
    with redis.Redis.from_url(redis_url) as client, client.pipeline() as pipe:
        pipe.execute_command("LPUSH", "no list", "the-secret")
        pipe.execute_command("HSET", "no list", "x", "the-secret")
        with pytest.raises(redis.ResponseError) as refused:
            pipe.execute()
    statement = StatementError("failed", "INSERT ...", {"result": "the-secret"}, ValueError("disk full"))
    for error in (refused.value, statement):
        assert "the-secret" in str(error)
        store.refuse = refusing(0, error=error)
        store.store_result("1", None, states.STARTED)
    assert "the-secret" not in caplog.text
    assert "WRONGTYPE" in caplog.text
    assert "ValueError: disk full" in caplog.text


URLS = {
    "redis://localhost/1": RedisBackend,
    "rediss://localhost/1?ssl_cert_reqs=required": RedisBackend,
    "sentinel://localhost:26379": SentinelBackend,
    "db+sqlite://": DatabaseBackend,
    "rpc://": RPCBackend,
}


@pytest.mark.parametrize("url", URLS)
def test_every_backend_is_made_as_celery_makes_it(url):
    app = Celery("tests", broker="memory://", backend=url, set_as_current=False)
    before = app.backend
    outlast_refusals(app)
    backend = app.backend
    assert (type(backend).__name__, backend.url, backend.as_uri()) == (
        URLS[url].__name__,
        before.url,
        before.as_uri(),
    )
    assert isinstance(backend, URLS[url])
    assert in_another_thread(lambda: app.backend.store_result).__func__ is backend.store_result.__func__
    outlast_refusals(app)
    assert type(app.backend) is type(backend)
    app.close()


def in_another_thread(function: Callable[[], Any]) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


async def test_who_awaits_results_in_a_worker_is_served_as_elsewhere(redis_url):
    app = Celery("tests", broker="memory://", backend=redis_url, set_as_current=False)
    outlast_refusals(app)
    assert isinstance(listener_for(app), RedisListener)
    app.close()


def test_an_attempt_to_tell_that_a_task_begins_takes_no_longer_than_the_connection(caplog):
    """Celery's backend for Redis would try for 19 seconds, and then as long as the backend is away."""
    app = Celery("tests", broker="memory://", backend=f"redis://127.0.0.1:{free_port()}/0", set_as_current=False)
    app.conf.update(result_backend_always_retry=True)
    outlast_refusals(app)
    began = time.monotonic()
    app.backend.store_result("1", {}, states.STARTED)
    assert time.monotonic() - began < 18
    assert "is left out" in caplog.text
    app.close()


@pytest.mark.filterwarnings("ignore:.*setex.*:DeprecationWarning")
def test_a_tasks_part_of_a_chord_is_noted_in_the_end(redis_url, monkeypatch):
    app = Celery("tests", broker="memory://", backend=redis_url, set_as_current=False)
    app.conf.update(result_backend_max_sleep_between_retries_ms=1)
    outlast_refusals(app)
    passing = app.backend.channel_errors[-1]
    attempts = iter([passing("OOM"), passing("OOM"), None])

    def note(*_: Any) -> str:
        error = next(attempts)
        if error:
            raise error
        return "noted"

    monkeypatch.setattr(RedisBackend, "on_chord_part_return", note)
    assert app.backend.on_chord_part_return(Context(id="1", group="2"), states.SUCCESS, 1) == "noted"
    app.close()


@pytest.fixture
def gate(monkeypatch) -> threading.Semaphore:
    """The one connection that there is, in use."""
    gate = threading.Semaphore(0)
    monkeypatch.setattr(attempts, "_gate", lambda: gate)
    return gate


def test_a_state_that_is_not_final_does_not_wait_long_for_a_connection(store, gate, monkeypatch, caplog):
    monkeypatch.setattr(module, "LONGEST_DELAY", 0.01)
    store.store_result("1", None, states.STARTED)
    assert store.attempts == []
    assert "The state STARTED of task 1 cannot be stored, and is left out" in caplog.text


def test_a_final_state_waits_for_a_connection_and_gives_it_back(store, gate):
    storing = threading.Thread(target=store.store_result, args=("1", 7, states.SUCCESS))
    storing.start()
    storing.join(0.05)
    assert store.attempts == []
    gate.release()
    storing.join(60)
    assert store.get_state("1") == states.SUCCESS
    assert gate.acquire(timeout=60)


def test_in_a_cold_shutdown_nothing_waits_for_a_connection(store, gate, monkeypatch):
    monkeypatch.setattr(attempts, "GLANCE", 0.01)
    monkeypatch.setattr(state, "should_terminate", 0)
    with pytest.raises(Reject):
        store.store_result("1", 7, states.SUCCESS)
    assert store.attempts == []


def test_what_is_stored_in_the_midst_of_storing_needs_no_other_connection(store, gate):
    gate.release()
    with attempts.attempt_with_connection():
        store.store_result("1", 7, states.SUCCESS)
    assert store.get_state("1") == states.SUCCESS
    assert gate.acquire(timeout=60)
    assert not gate.acquire(blocking=False)
