"""What must hold under gevent. Each function is a test, run by `test_gevent.py` in a patched process."""

import asyncio
import contextlib
import gc
import logging
import random
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Any

import gevent
import greenlet
import pytest
from celery.exceptions import SoftTimeLimitExceeded
from gevent.event import Event

from pico_celery_worker import run_blocking
from pico_celery_worker.loop import close_runner, current_runner, runner_class
from pico_celery_worker.loop.cancellation import CancelScope
from pico_celery_worker.loop.gevent import GeventRunner

_variable: ContextVar[str] = ContextVar("variable", default="unset")


@contextlib.contextmanager
def _runner() -> Iterator[GeventRunner]:
    runner = GeventRunner()
    try:
        yield runner
    finally:
        runner.close()


async def _forever() -> None:
    await asyncio.Event().wait()


async def _give(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


def _park(runner: GeventRunner) -> None:
    """Start a greenlet that waits for a coroutine that waits, until the loop is parked."""
    reached = Event()

    async def wait() -> None:
        reached.set()
        await _forever()

    def run() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            runner.run(wait())

    gevent.spawn(run)
    reached.wait()
    gevent.sleep(0)


def a_patched_process_has_one_host_which_is_gevents() -> None:
    assert runner_class() is GeventRunner
    first = current_runner()
    assert first is current_runner()
    close_runner()
    second = current_runner()
    assert second is not first
    assert second.run(_give(3)) == 3
    close_runner()
    close_runner()


def a_value_and_an_error_reach_the_caller() -> None:
    async def fail() -> None:
        raise KeyError("x")

    with _runner() as runner:
        assert runner.run(_give("done")) == "done"
        with pytest.raises(KeyError, match="x"):
            runner.run(fail())


def a_thousand_wait_at_the_same_time_without_a_thread() -> None:
    threads = threading.active_count()
    with _runner() as runner:
        started = time.monotonic()
        waiting = [gevent.spawn(runner.run, asyncio.sleep(0.2, number)) for number in range(1000)]
        assert [one.get() for one in waiting] == list(range(1000))
        assert time.monotonic() - started < 10
    assert threading.active_count() == threads


def coroutines_run_in_a_copy_of_the_callers_context() -> None:
    async def change() -> str:
        before = _variable.get()
        _variable.set("changed")
        return before

    with _runner() as runner:
        _variable.set("mine")
        assert runner.run(change()) == "mine"
        assert _variable.get() == "mine"


def asyncio_run_works_in_another_greenlet() -> None:
    with _runner() as runner:
        _park(runner)
        other = gevent.spawn(lambda: asyncio.run(_give("other")))
        assert other.get() == "other"
        assert runner.run(_give("own")) == "own"


def the_running_loop_is_invisible_to_other_greenlets() -> None:
    with _runner() as runner:
        _park(runner)
        assert asyncio._get_running_loop() is None
        assert gevent.spawn(asyncio._get_running_loop).get() is None

        async def inside() -> bool:
            await asyncio.sleep(0.01)
            return asyncio.get_running_loop() is runner.loop

        assert runner.run(inside())
    assert asyncio._get_running_loop() is None


def the_running_loop_is_invisible_while_a_coroutine_blocks_in_a_patched_call() -> None:
    seen = []

    async def block() -> bool:
        other = gevent.spawn(lambda: seen.append((asyncio._get_running_loop(), tuple(sys.get_asyncgen_hooks()))))
        time.sleep(0.001)  # noqa: ASYNC251  # patched
        other.join()
        return asyncio.get_running_loop() is runner.loop and sys.get_asyncgen_hooks().firstiter is not None

    with _runner() as runner:
        assert runner.run(block())
    assert seen == [(None, (None, None))]


def transactions_survive_beside_greenlets_that_call_asyncio_run() -> None:
    ends = []

    @contextlib.asynccontextmanager
    async def transaction() -> AsyncIterator[None]:
        try:
            yield
        except BaseException as error:
            ends.append(error)
            raise
        ends.append(None)

    async def handler(number: int) -> int:
        async with transaction():
            await asyncio.sleep(0)
            await asyncio.to_thread(time.sleep, 0)
            if number % 3 == 0:
                await run_blocking(lambda: asyncio.run(plain()))
        return number

    async def plain() -> None:
        async with transaction():
            time.sleep(0.001)  # noqa: ASYNC251  # patched
            await asyncio.sleep(0.001)

    with _runner() as runner:
        handlers = [gevent.spawn(runner.run, handler(number)) for number in range(60)]
        others = [gevent.spawn(lambda: asyncio.run(plain())) for _ in range(20)]
        assert [one.get() for one in handlers] == list(range(60))
        for one in others:
            one.get()
    assert ends == [None] * 100


def what_to_thread_calls_sees_no_running_loop() -> None:
    async def ask() -> Any:
        return await asyncio.to_thread(asyncio._get_running_loop)

    with _runner() as runner:
        asked = [gevent.spawn(runner.run, ask()) for _ in range(50)]
        assert [one.get() for one in asked] == [None] * 50


def no_greenlet_ever_sees_the_loop_or_the_hooks_of_another() -> None:
    """Greenlets of all kinds, switched by a seeded choice of calls; each holds its own loop against what it sees."""
    strangers: list[Any] = []
    done = []

    def look(loop: Any) -> None:
        hooks = sys.get_asyncgen_hooks()
        owner = getattr(hooks.firstiter, "__self__", None)
        if asyncio._get_running_loop() is not loop or owner is not loop:
            strangers.append((loop, asyncio._get_running_loop(), owner))

    async def steps(chance: random.Random, depth: int = 0) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(12):
            choice = chance.randrange(6)
            if choice == 0:
                await asyncio.sleep(0)
            elif choice == 1:
                time.sleep(0)  # noqa: ASYNC251  # patched
            elif choice == 2:
                await asyncio.to_thread(look, None)
            elif choice == 3 and depth == 0:
                await run_blocking(lambda: asyncio.run(steps(chance, 1)))
            elif choice == 4:
                gevent.spawn(look, None).join()
            else:
                await asyncio.sleep(0.0001)
            look(loop)

    def greenlet_of(kind: int, seed: int) -> None:
        chance = random.Random(seed)
        if kind == 0:
            runner.run(steps(chance))
        elif kind == 1:
            asyncio.run(steps(chance))
        else:
            for _ in range(12):
                gevent.sleep(chance.choice([0, 0.0001]))
                look(None)
        done.append(seed)

    with _runner() as runner:
        gevent.joinall([gevent.spawn(greenlet_of, number % 3, number) for number in range(45)], raise_error=True)
    assert strangers == []
    assert sorted(done) == list(range(45))


def a_trace_function_that_was_there_is_still_called() -> None:
    events = []
    mine = greenlet.settrace(None)
    try:
        greenlet.settrace(lambda event, _: events.append(event))
        with _runner() as runner:
            assert runner.run(_give(1)) == 1
        assert "switch" in events
    finally:
        greenlet.settrace(mine)


def debug_mode_works_and_reports_slow_callbacks() -> None:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logging.getLogger("asyncio").addHandler(handler)

    async def hold() -> str:
        end = time.perf_counter() + 0.02
        while time.perf_counter() < end:
            pass
        await asyncio.sleep(0)
        return await run_blocking(lambda: "blocked")

    try:
        with _runner() as runner:
            runner.loop.set_debug(True)
            runner.loop.slow_callback_duration = 0.01
            assert gevent.spawn(runner.run, hold()).get() == "blocked"
            cancel_scope = CancelScope("cancelled")

            def cancelled() -> None:
                with pytest.raises(asyncio.CancelledError):
                    runner.run(cancel_scope.guard(_forever()), cancel_scope)

            waiting = gevent.spawn(cancelled)
            gevent.sleep(0)
            waiting.kill(asyncio.CancelledError, block=False)
            waiting.get()
            runner.loop.set_debug(False)
    finally:
        logging.getLogger("asyncio").removeHandler(handler)
    assert any("took" in record.getMessage() for record in records), records


def a_call_that_blocks_a_greenlet_inside_a_coroutine_lets_other_greenlets_run() -> None:
    ticks = []

    def tick() -> None:
        while True:
            ticks.append(1)
            gevent.sleep(0.001)

    async def block() -> str:
        deadline = time.monotonic() + 20
        while len(ticks) < 5 and time.monotonic() < deadline:
            time.sleep(0.001)  # noqa: ASYNC251  # patched
        return "woke"

    with _runner() as runner:
        ticking = gevent.spawn(tick)
        assert runner.run(block()) == "woke"
        ticking.kill()
    assert len(ticks) >= 5


def a_task_that_another_greenlet_runs_while_a_coroutine_blocks_is_not_taken_for_a_nested_one() -> None:
    blocked = Event()

    async def block() -> None:
        blocked.set()
        time.sleep(0.05)  # noqa: ASYNC251

    with _runner() as runner:
        blocking = gevent.spawn(runner.run, block())
        blocked.wait()
        assert runner.run(_give("done")) == "done"
        blocking.get()


def names_are_looked_up() -> None:
    async def look_up() -> Any:
        return await asyncio.get_running_loop().getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)

    with _runner() as runner:
        assert any(address[4][0] in ("127.0.0.1", "::1") for address in runner.run(look_up()))


def streams_work_between_coroutines() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def talk() -> bytes:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\n")
            answer = await reader.readline()
            writer.close()
            await writer.wait_closed()
        return answer

    with _runner() as runner:
        assert runner.run(talk()) == b"hello\n"


def what_runs_in_a_thread_gives_its_value_and_keeps_the_context() -> None:
    async def call() -> tuple[str, int]:
        _variable.set("here")
        seen = await asyncio.to_thread(_variable.get)
        number = await asyncio.get_running_loop().run_in_executor(None, lambda: 3)
        return seen, number

    with _runner() as runner:
        for _ in range(3):
            assert runner.run(call()) == ("here", 3)


def a_subprocess_can_be_run() -> None:
    async def run() -> bytes:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print('hi')", stdout=-1)
        out, _ = await process.communicate()
        assert process.returncode == 0
        return out

    with _runner() as runner:
        assert runner.run(run()).strip() == b"hi"


def greenlets_are_not_starved_by_a_busy_loop() -> None:
    done = []

    async def busy() -> int:
        turns = 0
        while not done:
            turns += 1
            await asyncio.sleep(0)
        return turns

    def work() -> None:
        for _ in range(5):
            gevent.sleep(0.001)
        done.append(1)

    with _runner() as runner:
        gevent.spawn(work)
        assert runner.run(busy()) > 5


def a_timeout_in_the_caller_reaches_the_coroutine_whose_clean_up_runs_first() -> None:
    seen = []

    async def body() -> None:
        try:
            await _forever()
        finally:
            await asyncio.sleep(0.01)
            seen.append("cleaned up")

    with _runner() as runner:
        cancel_scope = CancelScope()
        try:
            with gevent.Timeout(0.02):
                runner.run(cancel_scope.guard(body()), cancel_scope)
        except gevent.Timeout:
            seen.append("timeout")
    assert seen == ["cleaned up", "timeout"]


def a_kill_reaches_the_coroutine_whose_clean_up_runs_first() -> None:
    seen, reached = [], Event()

    async def body() -> None:
        reached.set()
        try:
            await _forever()
        finally:
            await asyncio.sleep(0.01)
            seen.append("cleaned up")

    with _runner() as runner:
        cancel_scope = CancelScope()
        running = gevent.spawn(runner.run, cancel_scope.guard(body()), cancel_scope)
        reached.wait()
        running.kill(block=True)
        assert seen == ["cleaned up"]
        assert isinstance(running.value, gevent.GreenletExit)


def a_kill_before_the_loop_has_begun_with_the_coroutine_ends_it_all_the_same() -> None:
    with _runner() as runner:
        cancel_scope = CancelScope()

        def run() -> None:
            gevent.getcurrent().kill(block=False)
            runner.run(cancel_scope.guard(_forever()), cancel_scope)

        running = gevent.spawn(run)
        running.join()
        assert isinstance(running.value, gevent.GreenletExit)
        assert asyncio.all_tasks(runner.loop) == set()


def a_soft_time_limit_in_the_caller_can_be_caught_by_the_coroutine() -> None:
    reached = Event()

    async def body() -> str:
        reached.set()
        try:
            await _forever()
        except SoftTimeLimitExceeded:
            await asyncio.sleep(0.001)
        return "went on"

    with _runner() as runner:
        cancel_scope = CancelScope()
        running = gevent.spawn(runner.run, cancel_scope.guard(body()), cancel_scope)
        reached.wait()
        gevent.kill(running, SoftTimeLimitExceeded())
        assert running.get() == "went on"


def many_interruptions_of_one_wait_raise_the_first() -> None:
    reached, released = Event(), Event()

    async def body() -> None:
        reached.set()
        try:
            await _forever()
        finally:
            while not released.is_set():  # noqa: ASYNC110  # it is gevent's
                await asyncio.sleep(0.001)

    with _runner() as runner:
        cancel_scope = CancelScope()
        raised = []

        def run() -> None:
            try:
                runner.run(cancel_scope.guard(body()), cancel_scope)
            except KeyError as error:
                raised.append(error.args)

        running = gevent.spawn(run)
        reached.wait()
        for error in (KeyError("first"), ValueError("second")):
            gevent.kill(running, error)
            gevent.sleep(0)
        released.set()
        running.get()
        assert raised == [("first",)]


def a_synchronous_call_from_a_coroutine_is_refused() -> None:
    async def nested() -> str:
        try:
            current_runner().run(_give("never"))
        except RuntimeError as error:
            return str(error)
        return "not refused"

    try:
        answer = current_runner().run(nested())
    finally:
        close_runner()
    assert answer.startswith("A task was called synchronously from a coroutine on the worker's event loop"), answer


def blocking_functions_run_in_a_greenlet_of_their_own() -> None:
    async def call() -> tuple[Any, ...]:
        _variable.set("here")
        own = greenlet.getcurrent()
        other, seen = await run_blocking(lambda: (greenlet.getcurrent(), _variable.get()))
        return other is not own, seen, threading.get_ident()

    with _runner() as runner:
        assert runner.run(call())[:2] == (True, "here")


def blocking_functions_wait_at_the_same_time() -> None:
    together = threading.Barrier(50)

    async def call() -> None:
        await asyncio.gather(*(run_blocking(together.wait, 20) for _ in range(50)))

    with _runner() as runner:
        runner.run(call())


def what_a_blocking_function_raises_reaches_the_coroutine() -> None:
    def fail(text: str, *, number: int) -> None:
        raise KeyError(text, number)

    async def call() -> tuple[Any, ...]:
        try:
            await run_blocking(fail, "x", number=3)
        except KeyError as error:
            return error.args
        return ()

    with _runner() as runner:
        assert runner.run(call()) == ("x", 3)


def whatever_ends_a_blocking_function_reaches_the_coroutine() -> None:
    errors = (gevent.Timeout(0), gevent.GreenletExit(), SystemExit(3))

    def end(error: BaseException) -> None:
        raise error

    async def call(error: BaseException) -> BaseException | None:
        try:
            await run_blocking(end, error)
        except BaseException as caught:  # noqa: BLE001
            return caught
        return None

    with _runner() as runner:
        for error in errors:
            assert runner.run(call(error)) is error


def a_cancelled_wait_kills_the_blocking_function() -> None:
    seen, reached = [], Event()

    def block() -> None:
        reached.set()
        try:
            Event().wait()
        finally:
            seen.append("ended")

    async def call() -> None:
        waiting = asyncio.create_task(run_blocking(block))
        while not reached.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        while not seen:  # noqa: ASYNC110
            await asyncio.sleep(0)

    with _runner() as runner:
        runner.run(call())
    assert seen == ["ended"]


def closing_cancels_what_is_left_and_leaves_nothing() -> None:
    seen: list[str] = []
    gc.collect()
    before = _greenlets()

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            seen.append("generator closed")

    kept = []

    async def leave() -> None:
        async def left() -> None:
            try:
                await _forever()
            finally:
                await asyncio.sleep(0)
                seen.append("cancelled")

        kept.append(asyncio.create_task(left()))
        generator = numbers()
        kept.append(generator)
        await anext(generator)

    runner = GeventRunner()
    runner.run(leave())
    loop, own = runner.loop, runner._greenlet
    runner.close()
    assert seen == ["cancelled", "generator closed"]
    assert loop.is_closed()
    assert own.dead
    assert asyncio._get_running_loop() is None
    del runner, loop, own
    kept.clear()
    gc.collect()
    assert _greenlets() <= before


def runs_leave_no_greenlets_and_no_tasks() -> None:
    with _runner() as runner:
        runner.run(_give(1))
        gc.collect()
        before = _greenlets()
        for number in range(2000):
            runner.run(_give(number))
        gc.collect()
        assert _greenlets() <= before
        assert asyncio.all_tasks(runner.loop) == set()


def waking_the_parked_selector_needs_its_private_event() -> None:
    """Fails when gevent changes what `_LoopSelector.wake` relies on."""
    with _runner() as runner:
        _park(runner)
        assert not runner._selector._ready.is_set()
        called = Event()
        runner.loop.call_soon(called.set)
        gevent.sleep(0.01)
        assert not called.is_set(), "without a wake-up the loop stays parked"
        runner._selector.wake()
        assert called.wait(60)


def a_busy_greenlet_delays_the_loop_but_loses_nothing() -> None:
    with _runner() as runner:
        waiting = [gevent.spawn(runner.run, asyncio.sleep(0.01, number)) for number in range(50)]
        gevent.sleep(0)
        end = time.perf_counter() + 0.05
        while time.perf_counter() < end:
            pass
        assert [one.get() for one in waiting] == list(range(50))


def an_exit_in_a_task_or_callback_of_the_loop_does_not_end_it() -> None:
    async def leave() -> None:
        raise SystemExit(3)

    async def start() -> None:
        asyncio.get_running_loop().call_soon(sys.exit, 4)
        await asyncio.create_task(leave())

    logging.disable()
    try:
        with _runner() as runner:
            waiting = gevent.spawn(runner.run, asyncio.sleep(0.01, "undisturbed"))
            with pytest.raises(SystemExit):
                runner.run(start())
            assert waiting.get() == "undisturbed"
    finally:
        logging.disable(logging.NOTSET)


def a_coroutine_that_blocks_in_a_patched_function_is_interrupted_there() -> None:
    cancel_scope, reached = CancelScope("task"), Event()
    ended: list[str] = []

    async def block() -> None:
        try:
            reached.set()
            Event().wait()
        finally:
            ended.append("finally")

    with _runner() as runner:
        waiting = gevent.spawn(runner.run, cancel_scope.guard(block()), cancel_scope)
        assert reached.wait(60)
        waiting.kill(gevent.GreenletExit, timeout=5)
        assert waiting.dead
        assert ended == ["finally"]
        assert runner.run(_give("alive")) == "alive"


def who_blocks_is_not_interrupted_in_the_place_of_another() -> None:
    cancel_scope, waits, blocks, goes_on = CancelScope("task"), Event(), Event(), Event()

    async def wait() -> None:
        waits.set()
        await _forever()

    async def block() -> str:
        blocks.set()
        goes_on.wait()
        return "went on"

    with _runner() as runner:
        waiting = gevent.spawn(runner.run, cancel_scope.guard(wait()), cancel_scope)
        assert waits.wait(60)
        blocking = gevent.spawn(runner.run, block())
        assert blocks.wait(60)
        waiting.kill(gevent.GreenletExit, block=False)
        gevent.sleep(0.01)
        goes_on.set()
        assert blocking.get(timeout=60) == "went on"
        waiting.join(60)
        assert waiting.dead


def what_holds_up_the_loop_is_shown_with_the_coroutine_that_has_begun_it() -> None:
    with _runner() as runner:
        native, told = runner.native(), []

        def hold_up_natively() -> None:
            seen = native.new_lock()
            seen.acquire()
            native.start_thread(lambda: (told.append(runner.held_up_by()), seen.release()), ())
            seen.acquire()  # a native lock: nothing else runs on this thread

        async def begin_it() -> None:
            threading.Thread(target=hold_up_natively).start()

        runner.run(begin_it())
        thread, _, coroutine = told[0].partition("while the task waits for it here:")
        assert "in hold_up_natively" in thread
        assert "in begin_it" in coroutine


def what_is_called_again_and_again_is_called_while_a_coroutine_blocks_the_loop() -> None:
    with _runner() as runner:
        calls: list[float] = []
        runner.keep_calling(lambda: calls.append(time.monotonic()), 0.01)

        async def block() -> None:
            before = len(calls)
            while len(calls) < before + 3:
                time.sleep(0.01)  # noqa: ASYNC251

        runner.run(block())


def _greenlets() -> int:
    return sum(isinstance(found, greenlet.greenlet) and not found.dead and bool(found) for found in gc.get_objects())
