"""What must hold of the timer of the gevent pool. Each function is a test, run by `test_timers.py`."""

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gevent
from celery.concurrency import gevent as celery_gevent
from gevent.event import Event

from pico_celery_worker.pools.gevent import TaskPool
from pico_celery_worker.pools.timers import Timer


class Calls:
    """A function that is called, and an event for when it was called so many times."""

    def __init__(self, enough: int = 1) -> None:
        self.arguments: list[Any] = []
        self.enough = Event()
        self._missing = enough

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        self.arguments.append((args, kwargs))
        if len(self.arguments) >= self._missing:
            self.enough.set()


@contextlib.contextmanager
def _timer(timer_class: Any = Timer) -> Iterator[Any]:
    timer = timer_class()
    try:
        yield timer
    finally:
        for greenlet in [*timer.queue]:
            greenlet.entry.cancel()
        timer.clear()


def _rounds(calls: Any, timer: Any, count: int = 3) -> int:
    """Wait until another function was called so many times, and return how many of these calls there were meanwhile."""
    before = len(calls.arguments)
    others = Calls(count)
    entry = timer.call_repeatedly(0.002, others)
    assert others.enough.wait(60)
    entry.cancel()
    return len(calls.arguments) - before


def the_pool_uses_it() -> None:
    assert TaskPool.Timer is Timer


def a_function_is_called_again_and_again_with_its_arguments() -> None:
    with _timer() as timer:
        calls = Calls(4)
        timer.call_repeatedly(0.001, calls, (1,), {"two": 2})
        assert calls.enough.wait(60)
        assert calls.arguments[:4] == [((1,), {"two": 2})] * 4


def what_is_cancelled_before_its_first_call_is_not_called() -> None:
    with _timer() as timer:
        calls = Calls()
        timer.call_repeatedly(0.001, calls).cancel()
        assert _rounds(calls, timer) == 0


def what_is_cancelled_after_several_calls_is_not_called_again() -> None:
    with _timer() as timer:
        calls = Calls(3)
        entry = timer.call_repeatedly(0.001, calls)
        assert calls.enough.wait(60)
        entry.cancel()
        assert _rounds(calls, timer) == 0
        assert not [greenlet for greenlet in timer.queue if greenlet.entry is entry]


def a_function_can_cancel_itself() -> None:
    with _timer() as timer:
        calls: list[Any] = []
        entry: Any = timer.call_repeatedly(0.001, lambda: calls.append(1) or entry.cancel())
        others = Calls(5)
        timer.call_repeatedly(0.002, others)
        assert others.enough.wait(60)
        assert calls == [1]


def what_cannot_be_cancelled_in_celerys_timer() -> None:
    """Fails when Celery no longer does what `Timer` is for."""
    with _timer(celery_gevent.Timer) as timer:
        calls = Calls(2)
        entry = timer.call_repeatedly(0.001, calls)
        assert calls.enough.wait(60)
        entry.cancel()
        assert _rounds(calls, timer) > 0


def clearing_ends_all_of_them() -> None:
    with _timer() as timer:
        calls, once = Calls(2), Calls()
        timer.call_repeatedly(0.001, calls)
        timer.call_after(0.005, once)
        assert calls.enough.wait(60)
        timer.clear()
        assert not timer.queue
        assert _rounds(calls, timer) == 0
        assert once.arguments == []


def clearing_ends_also_one_that_is_being_called() -> None:
    with _timer() as timer:
        reached, ended, calls = Event(), Event(), []

        def wait() -> None:
            calls.append(1)
            reached.set()
            try:
                Event().wait()
            finally:
                ended.set()

        timer.call_repeatedly(0.001, wait)
        assert reached.wait(60)
        timer.clear()
        assert ended.wait(60)
        assert _rounds(SimpleNamespace(arguments=calls), timer) == 0


def greenlets_end_with_their_calls() -> None:
    with _timer() as timer:
        calls = Calls(20)
        entry = timer.call_repeatedly(0.001, calls)
        assert calls.enough.wait(60)
        assert len(timer.queue) <= 2
        entry.cancel()
        while timer.queue:
            gevent.sleep(0)
