"""What must hold of the gevent pool and the requests it runs. Each function is a test, run by `test_gevent.py`."""

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from billiard.einfo import ExceptionInfo
from billiard.exceptions import Terminated
from celery import Celery
from celery.backends.base import Backend
from celery.concurrency import gevent as celery_gevent
from celery.concurrency.base import apply_target
from celery.worker import state
from celery.worker.request import Request
from gevent.event import Event
from pico_ioc import component

from pico_celery import task
from pico_celery_worker.consumer.request import AsyncRequest
from pico_celery_worker.loop import close_runner
from pico_celery_worker.pools.gevent import TaskPool
from tests.unit.worker.applications import app_of
from tests.unit.worker.requests import message_of, request_of

reached = Event()
released = Event()
log: list[str] = []


@component(scope="prototype")
class Tasks:
    @task("wait", acks_late=True)
    async def wait(self) -> None:
        await self._wait()

    @task("wait_acknowledged")
    async def wait_acknowledged(self) -> None:
        await self._wait()

    @task("give", acks_late=True)
    async def give(self, value: int = 3) -> int:
        log.append("given")
        return value

    async def _wait(self) -> None:
        reached.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.001)
            log.append("cleaned up")


class Worker:
    """An app and a pool that runs its requests."""

    def __init__(self, app: Celery, pool: Any) -> None:
        self.app = app
        self.pool = pool

    def run(self, name: str, kind: Any = AsyncRequest, **headers: Any) -> Any:
        request = request_of(self.app, message_of(name, **headers), kind)
        request.execute_using_pool(self.pool)
        return request

    def run_until_it_waits(self, name: str = "wait", kind: Any = AsyncRequest) -> Any:
        request = self.run(name, kind)
        reached.wait()
        return request

    def state_of(self, request: Any) -> str:
        stored: str = self.app.AsyncResult(request.id).state
        return stored


@contextlib.contextmanager
def _worker(pool_class: Any = TaskPool) -> Iterator[Worker]:
    app = app_of(Tasks, broker_url="memory://", backend_url="cache+memory://")
    app.set_default()
    state.reset_state()
    reached.clear()
    released.clear()
    log.clear()
    pool = pool_class(10, app=app)
    pool.start()
    try:
        yield Worker(app, pool)
    finally:
        state.should_terminate = state.should_stop = None
        released.set()
        pool.terminate()
        pool._pool.kill()
        app.close()
        close_runner()


def _answers(request: Any) -> list[str]:
    answers: list[str] = request.message.channel.answers
    return answers


def _stubborn() -> tuple[bool, str, float]:
    """Be killed, and go on until released."""
    reached.set()
    while not released.is_set():
        with contextlib.suppress(gevent.GreenletExit):
            released.wait()
    return False, "ended", 0.0


def _ignore(*_: Any) -> None: ...


def a_task_that_ends_is_acknowledged_and_its_result_is_stored() -> None:
    with _worker() as worker:
        request = worker.run("give", args=[5])
        worker.pool._pool.join()
        assert worker.app.AsyncResult(request.id).get(timeout=60) == 5
        assert _answers(request) == ["acknowledged"]
        assert not state.requests


def a_killed_task_is_told_as_terminated_with_the_traceback_of_where_it_was() -> None:
    told: list[Any] = []
    with _worker() as worker:
        greenlet = worker.pool.apply_async(reached.wait, callback=told.append, error_callback=_ignore)
        gevent.sleep(0)
        greenlet.kill()
        [(failed, info, _)] = told
        assert failed
        assert isinstance(info, ExceptionInfo)
        assert info.type is Terminated
        assert "wait" in info.traceback


def a_task_that_is_revoked_while_it_runs_is_acknowledged_when_it_has_cleaned_up() -> None:
    with _worker() as worker:
        request = worker.run_until_it_waits()
        request.terminate(worker.pool)
        assert log == ["cleaned up"]
        assert _answers(request) == ["acknowledged"]
        assert worker.state_of(request) == "REVOKED"
        assert not state.active_requests


def a_task_that_is_revoked_before_it_is_accepted_does_not_run() -> None:
    with _worker() as worker:
        request = request_of(worker.app, message_of("give"))
        request.terminate(worker.pool)
        request.execute_using_pool(worker.pool)
        worker.pool._pool.join()
        assert log == []
        assert _answers(request) == ["acknowledged"]
        assert worker.state_of(request) == "REVOKED"
        assert not state.active_requests


def nor_is_it_killed_while_its_revocation_is_told() -> None:
    mark = Backend.mark_as_revoked

    def mark_as_revoked(*args: Any, **kwargs: Any) -> Any:
        gevent.sleep(0.001)  # as one waits for a result backend that is not in memory
        return mark(*args, **kwargs)

    with _worker() as worker, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Backend, "mark_as_revoked", mark_as_revoked)
        request = request_of(worker.app, message_of("give"))
        request.terminate(worker.pool)
        request.execute_using_pool(worker.pool)
        worker.pool._pool.join()
        assert worker.state_of(request) == "REVOKED"
        assert _answers(request) == ["acknowledged"]
        assert log == []


def a_cancelled_task_keeps_its_message() -> None:
    with _worker() as worker:
        request = worker.run_until_it_waits()
        request.cancel(worker.pool)
        worker.pool._pool.join()
        assert log == ["cleaned up"]
        assert _answers(request) == []
        assert worker.state_of(request) == "RETRY"


def a_task_that_is_killed_when_the_worker_ends_keeps_its_message() -> None:
    with _worker() as worker:
        request = worker.run_until_it_waits()
        state.should_terminate = 1
        worker.pool.terminate()
        assert log == ["cleaned up"]
        assert _answers(request) == []
        assert worker.state_of(request) == "STARTED"


def one_that_was_acknowledged_early_is_not_given_back() -> None:
    with _worker() as worker:
        request = worker.run_until_it_waits("wait_acknowledged")
        state.should_terminate = 1
        worker.pool.terminate()
        assert _answers(request) == ["acknowledged"]


def celerys_own_pool_takes_a_killed_task_for_one_that_has_succeeded() -> None:
    """Fails when Celery no longer does what `TaskPool` is for."""
    with _worker(celery_gevent.TaskPool) as worker:
        request = worker.run_until_it_waits(kind=Request)
        state.should_terminate = 1
        worker.pool.terminate_job(request.worker_pid)
        worker.pool._pool.join()
        assert _answers(request) == ["acknowledged"]


def a_task_that_fails_outside_of_its_handler_is_told_to_its_request() -> None:
    with _worker() as worker:
        request = request_of(worker.app, message_of("give", args=[5]))
        # Celery's tracer cannot read it any more.
        request._body, request._content_type = b"\xff", "application/json"
        with _quiet():
            request.execute_using_pool(worker.pool)
            worker.pool._pool.join()
        assert worker.state_of(request) == "FAILURE"
        assert _answers(request) == ["acknowledged"]
        assert not state.requests


def nothing_starts_when_the_worker_is_to_end() -> None:
    with _worker() as worker:
        state.should_terminate = 1
        request = worker.run("give")
        gevent.sleep(0)
        assert len(worker.pool._pool) == 0
        assert log == []
        assert _answers(request) == []
        state.should_terminate = False
        worker.run("give")
        worker.pool._pool.join()
        assert log == ["given"]


def what_waits_for_room_does_not_begin_when_the_worker_is_to_stop() -> None:
    with _worker() as worker:
        running = [worker.run("wait") for _ in range(10)]
        while not all(request.time_start for request in running):
            gevent.sleep(0)
        waiting = gevent.spawn(worker.run, "give")
        gevent.sleep(0)
        state.should_stop = 0
        for request in running:
            worker.pool.terminate_job(request.worker_pid)
        request = waiting.get()
        worker.pool._pool.join()
        assert "given" not in log
        assert request.time_start is None
        assert _answers(request) == []


def terminating_kills_and_waits() -> None:
    with _worker() as worker:
        requests = [worker.run("wait") for _ in range(3)]
        while not all(request.time_start for request in requests):
            gevent.sleep(0)
        reached.wait()
        worker.pool.terminate()
        assert len(worker.pool._pool) == 0
        assert "cleaned up" in log
        assert not state.active_requests


def terminating_does_not_wait_for_ever() -> None:
    with _worker() as worker:
        greenlet = worker.pool.apply_async(_stubborn, callback=_ignore, error_callback=_ignore)
        reached.wait()
        worker.pool.terminate_timeout = 0.01
        worker.pool.terminate()
        assert not greenlet.dead
        released.set()
        greenlet.join()


def a_pool_that_has_not_started_can_be_terminated() -> None:
    pool = TaskPool(1)
    pool.terminate()
    pool.terminate_and_wait(1, 0)
    assert pool._pool is None


def one_of_several_tasks_is_terminated_and_waited_for() -> None:
    with _worker() as worker:
        request = worker.run_until_it_waits()
        reached.clear()
        other = worker.run_until_it_waits()
        worker.pool.terminate_and_wait(request.worker_pid, 10)
        assert log == ["cleaned up"]
        assert list(state.active_requests) == [other]
        assert [*worker.pool._pool_map] == [other.worker_pid]


def one_that_does_not_end_is_not_waited_for_for_ever() -> None:
    with _worker() as worker:
        greenlet = worker.pool.apply_async(_stubborn, callback=_ignore, error_callback=_ignore)
        reached.wait()
        worker.pool.terminate_and_wait(id(greenlet), 0.01)
        assert not greenlet.dead
        released.set()
        greenlet.join()


def a_task_does_not_wait_for_its_own_end() -> None:
    told: list[Any] = []
    with _worker() as worker:

        def terminate_myself() -> tuple[bool, str, float]:
            worker.pool.terminate_and_wait(id(gevent.getcurrent()), 10)
            return False, "went on", 0.0

        worker.pool.apply_async(terminate_myself, callback=told.append, error_callback=told.append).join()
        assert told == [(False, "went on", 0.0)]
        worker.pool.terminate_and_wait(-1, 10)  # nobody's


def hard_time_limits_end_a_task() -> None:
    with _worker() as worker, _quiet():
        request = worker.run("wait", timelimit=[0.01, None])
        worker.pool._pool.join()
        assert log == ["cleaned up"]
        assert worker.state_of(request) == "FAILURE"
        assert _answers(request) == ["acknowledged"]


def celerys_pool_calls_what_ours_overrides() -> None:
    """The private parts, by name."""
    pool = celery_gevent.TaskPool(1)
    assert (pool._pool, pool._pool_map) == (None, None)
    assert callable(apply_target)
    assert {"on_apply", "on_terminate", "Timer"} <= {*dir(celery_gevent.TaskPool)}
    assert "on_terminate" not in vars(celery_gevent.TaskPool)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    logging.disable()
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
