"""The thread runner: one loop in a thread of its own, for callers in other threads."""

import asyncio
import contextlib
import gc
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from pico_celery_worker import loop as loops
from pico_celery_worker import run_blocking
from pico_celery_worker.loop import close_runner, current_runner
from pico_celery_worker.loop.cancellation import CancelScope
from pico_celery_worker.loop.thread import ThreadRunner

variable: ContextVar[str] = ContextVar("variable", default="unset")


@pytest.fixture
def runner() -> Iterator[ThreadRunner]:
    runner = ThreadRunner()
    yield runner
    runner.close()


async def give(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


async def forever() -> None:
    await asyncio.Event().wait()


def test_a_value_and_an_error_reach_the_caller(runner):
    async def fail() -> None:
        raise KeyError("x")

    assert runner.run(give("done")) == "done"
    with pytest.raises(KeyError, match="x"):
        runner.run(fail())


def test_all_coroutines_run_on_one_loop_at_the_same_time(runner):
    everyone = threading.Barrier(20)

    async def meet() -> asyncio.AbstractEventLoop:
        await asyncio.to_thread(everyone.wait, 10)
        return asyncio.get_running_loop()

    runner.loop.call_soon_threadsafe(runner.loop.set_default_executor, ThreadPoolExecutor(20))
    with ThreadPoolExecutor(20) as pool:
        loops = list(pool.map(lambda _: runner.run(meet()), range(20)))
    assert set(loops) == {runner.loop}


def test_coroutines_run_in_a_copy_of_the_callers_context(runner):
    async def change() -> str:
        before = variable.get()
        variable.set("changed")
        return before

    variable.set("mine")
    assert runner.run(change()) == "mine"
    assert variable.get() == "mine"


def test_a_synchronous_call_from_a_coroutine_is_refused(runner):
    async def nested() -> None:
        runner.run(give("never"))

    with pytest.raises(RuntimeError, match="called synchronously from a coroutine on the worker's event loop"):
        runner.run(nested())


def test_a_call_from_another_loop_is_served(runner):
    async def outer() -> str:
        return runner.run(give("done"))

    assert asyncio.run(outer()) == "done"


class Interrupted(ThreadRunner):
    """Its first waits end with the given exceptions, as when a signal arrives."""

    def __init__(self, *errors: BaseException) -> None:
        super().__init__()
        self.errors = list(errors)
        self.begun = threading.Event()

    def _waiter(self) -> Any:
        waiter: Any = super()._waiter()
        wait = waiter.wait

        def wait_interrupted() -> None:
            self.begun.wait(60)
            if self.errors:
                raise self.errors.pop(0)
            wait()

        waiter.wait = wait_interrupted
        return waiter


@pytest.fixture
def interrupted() -> Iterator[Any]:
    made = []

    def make(*errors: BaseException) -> Interrupted:
        made.append(Interrupted(*errors))
        return made[-1]

    yield make
    for runner in made:
        runner.begun.set()
        runner.close()


def test_an_interrupted_wait_cancels_the_coroutine_and_waits_for_its_clean_up(interrupted):
    seen = []
    runner = interrupted(KeyboardInterrupt())

    async def body() -> None:
        runner.begun.set()
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            seen.append("cleaned up")

    cancel_scope = CancelScope()
    with pytest.raises(KeyboardInterrupt):
        runner.run(cancel_scope.guard(body()), cancel_scope)
    assert seen == ["cleaned up"]


def test_a_soft_time_limit_in_the_caller_is_raised_in_the_coroutine(interrupted):
    runner = interrupted(SoftTimeLimitExceeded())

    async def body() -> str:
        runner.begun.set()
        with contextlib.suppress(SoftTimeLimitExceeded):
            await forever()
        await asyncio.sleep(0)
        return "went on"

    cancel_scope = CancelScope()
    assert runner.run(cancel_scope.guard(body()), cancel_scope) == "went on"


def test_an_exit_that_a_coroutine_asks_for_is_the_callers_and_the_loop_goes_on(runner):
    async def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        runner.run(leave())
    assert runner.run(give("alive")) == "alive"


def test_closing_cancels_what_is_left_and_leaves_nothing():
    seen: list[str] = []
    kept: list[Any] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            seen.append("generator closed")

    async def left() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            seen.append("cancelled")

    async def leave() -> None:
        kept.extend([asyncio.create_task(left()), numbers()])
        await anext(kept[1])

    runner = ThreadRunner()
    runner.run(leave())
    runner.close()
    assert seen == ["cancelled", "generator closed"]
    assert runner.loop.is_closed()
    assert not runner._thread.is_alive()


def test_runs_leave_nothing(runner):
    def run(count: int) -> int:
        for number in range(count):
            runner.run(give(number))
        gc.collect()
        return len(gc.get_objects())

    before = run(10)
    assert abs(run(500) - before) < 200


def test_blocking_functions_run_in_a_thread_with_the_context(runner):
    async def call() -> tuple[str, int]:
        variable.set("here")
        return await run_blocking(lambda: (variable.get(), threading.get_ident()))

    seen, thread = runner.run(call())
    assert seen == "here"
    assert thread not in (runner._thread.ident, threading.get_ident())


async def test_blocking_functions_run_on_any_loop_and_raise_what_they_raise():
    def fail(text: str, *, number: int) -> None:
        raise KeyError(text, number)

    assert await run_blocking(int, "3") == 3
    with pytest.raises(KeyError) as caught:
        await run_blocking(fail, "x", number=4)
    assert caught.value.args == ("x", 4)
    with pytest.raises(RuntimeError, match="raised StopIteration"):
        await run_blocking(next, iter([]))


def test_an_exit_in_a_task_or_callback_of_the_loop_does_not_end_it(runner, caplog):
    async def leave() -> None:
        raise SystemExit(3)

    async def start() -> None:
        asyncio.get_running_loop().call_soon(sys.exit, 4)
        await asyncio.create_task(leave())

    with pytest.raises(SystemExit):
        runner.run(start())
    assert runner.run(give("alive")) == "alive"
    assert "A task or callback on the event loop raised SystemExit(3); restarting the loop" in caplog.text
    assert "SystemExit(4)" in caplog.text


@pytest.fixture
def no_host() -> Iterator[None]:
    close_runner()
    yield
    close_runner()


def test_a_process_has_one_host_until_it_is_closed(no_host):
    first = current_runner()
    assert isinstance(first, ThreadRunner)
    with ThreadPoolExecutor(10) as pool:
        assert set(pool.map(lambda _: current_runner(), range(10))) == {first}
    close_runner()
    assert first.loop.is_closed()
    assert current_runner() is not first


def test_a_forked_child_makes_a_host_of_its_own_and_leaves_its_parents_alone(no_host, monkeypatch):
    parents = current_runner()
    monkeypatch.setattr(loops.os, "getpid", lambda: -1)
    close_runner()
    childs = current_runner()
    assert childs is not parents
    assert parents.run(give("alive")) == "alive"
    close_runner()
    parents.close()


def test_what_is_called_again_and_again_is_called_on_the_loop(runner):
    called = threading.Event()
    loops = []

    def call() -> None:
        loops.append(asyncio._get_running_loop())
        if len(loops) == 3:
            called.set()

    runner.keep_calling(call, 0.001)
    assert called.wait(60)
    assert set(loops) == {runner.loop}


def test_what_the_thread_of_the_loop_is_at_is_said(runner):
    async def block() -> str:
        with ThreadPoolExecutor(1) as other:
            return other.submit(runner.held_up_by).result()

    told = runner.run(block())
    assert told.startswith("task ")
    assert "in block" in told
