"""Celery's own requests, in the threads and solo pools."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from billiard.exceptions import Terminated
from celery.concurrency import base
from celery.worker import state

from pico_celery_worker.loop import close_runner, current_runner
from pico_celery_worker.loop.cancellation import CancelScope
from pico_celery_worker.pools import solo, threads


class Told:
    """What a pool tells a request."""

    def __init__(self) -> None:
        self.pid: int | None = None
        self.accepted = threading.Event()
        self.done = threading.Event()
        self.outcome: Any = None

    def accept(self, pid: int, _: float) -> None:
        self.pid = pid
        self.accepted.set()

    def finish(self, outcome: Any) -> None:
        self.outcome = outcome
        self.done.set()


@pytest.fixture
def pool(app) -> Iterator[threads.TaskPool]:
    pool = threads.TaskPool(limit=2, app=app)
    pool.start()
    yield pool
    pool.stop()
    close_runner()


@pytest.fixture
def solo_pool() -> Iterator[solo.TaskPool]:
    yield solo.TaskPool(limit=1)
    close_runner()


@pytest.fixture
def ending() -> Iterator[None]:
    state.should_terminate = 0  # the exit code
    yield
    state.should_terminate = None


def apply(pool: Any, target: Callable[..., Any], *args: Any) -> Told:
    told = Told()
    pool.apply_async(
        target, args, accept_callback=told.accept, callback=told.finish, error_callback=told.finish, soft_timeout=None
    )
    return told


def wait_for_ever(began: threading.Event, cleaned: list[str]) -> Any:
    cancel_scope = CancelScope()

    async def body() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append("cleaned up")

    return current_runner().run(cancel_scope.guard(body()), cancel_scope)


def test_a_task_runs_and_is_told_of(pool):
    told = apply(pool, lambda value: (False, value, 0.1), 7)
    assert told.done.wait(60)
    assert told.outcome == (False, 7, 0.1)


def test_each_task_has_a_number_of_its_own(pool):
    numbers = {told.pid for told in [apply(pool, lambda: (False, 0, 0)) for _ in range(5)] if told.done.wait(60)}
    assert len(numbers) == 5


@pytest.mark.parametrize("how", ["terminate_job", "terminate_and_wait", "terminate"])
def test_a_task_can_be_ended(pool, how):
    began, cleaned = threading.Event(), []
    told = apply(pool, wait_for_ever, began, cleaned)
    assert began.wait(60)
    if how == "terminate_job":
        pool.terminate_job(told.pid, signal.SIGTERM)
    elif how == "terminate_and_wait":
        pool.terminate_and_wait(told.pid, 5)
        assert cleaned == ["cleaned up"]
    else:
        pool.terminate()
        assert cleaned == ["cleaned up"]
    assert told.done.wait(60)
    assert told.outcome[1].type is Terminated


def test_what_waits_for_a_thread_does_not_begin_when_the_pool_is_terminated(pool):
    running = [threading.Event() for _ in range(2)]
    cleaned: list[str] = []
    for began in running:
        apply(pool, wait_for_ever, began, cleaned)
    assert all(began.wait(60) for began in running)
    waiting = apply(pool, lambda: (False, 7, 0.1))
    pool.terminate()
    pool.stop()
    assert not waiting.accepted.is_set()


def hold(began: threading.Semaphore, end: threading.Event) -> tuple[bool, int, float]:
    began.release()
    assert end.wait(60)
    return False, 7, 0.1


def test_a_pool_grows_and_shrinks(pool):
    began, end = threading.Semaphore(0), threading.Event()
    told = [apply(pool, hold, began, end) for _ in range(6)]
    assert [began.acquire(timeout=60) for _ in range(2)] == [True] * 2
    assert not began.acquire(timeout=0.05)
    pool.grow(3)
    assert pool.num_processes == 5
    assert [began.acquire(timeout=60) for _ in range(3)] == [True] * 3
    assert not began.acquire(timeout=0.05)
    pool.shrink(4)
    assert pool.num_processes == 1
    end.set()
    assert all(each.done.wait(60) for each in told)

    end.clear()
    told = [apply(pool, hold, began, end) for _ in range(2)]
    assert began.acquire(timeout=60)  # the sixth
    assert began.acquire(timeout=60)
    assert not began.acquire(timeout=0.05)
    end.set()
    assert all(each.done.wait(60) for each in told)


def test_a_pool_may_begin_with_nothing():
    pool = threads.TaskPool(limit=0)
    pool.start()
    told = apply(pool, lambda: (False, 7, 0.1))
    assert not told.accepted.wait(0.05)
    pool.grow()
    assert told.done.wait(60)
    pool.stop()


def test_a_thread_serves_many_tasks(pool):
    for _ in range(100):
        assert apply(pool, lambda: (False, 7, 0.1)).done.wait(60)
    assert pool.info["threads"] <= 2 * pool.limit


def test_nothing_begins_when_the_worker_ends(pool, solo_pool, ending):
    for each in (pool, solo_pool):
        assert not apply(each, lambda: (False, 7, 0.1)).accepted.wait(0.01)


def test_solo_runs_a_task_at_once(solo_pool):
    assert apply(solo_pool, lambda: (False, 7, 0.1)).outcome == (False, 7, 0.1)


def test_solo_ends_its_task_when_a_signal_asks_for_it(solo_pool):
    began, cleaned = threading.Event(), []
    told = Told()
    previous = signal.signal(signal.SIGUSR1, lambda *_: solo_pool.terminate_job(told.pid))
    main = threading.get_ident()

    def strike() -> None:
        assert began.wait(60)
        signal.pthread_kill(main, signal.SIGUSR1)

    striker = threading.Thread(target=strike)
    striker.start()
    try:
        solo_pool.apply_async(
            wait_for_ever,
            (began, cleaned),
            accept_callback=told.accept,
            callback=told.finish,
            error_callback=told.finish,
        )
    finally:
        signal.signal(signal.SIGUSR1, previous)
        striker.join(60)
    assert cleaned == ["cleaned up"]
    assert told.outcome[1].type is Terminated


def test_celerys_own_pools_still_end_nothing():
    """Else these are not needed any more."""
    assert not hasattr(threads.TaskPool.__mro__[1], "grow")
    for pool_cls in (threads.TaskPool, solo.TaskPool):
        assert pool_cls.__mro__[1].terminate_job is base.BasePool.terminate_job
