"""CancelScope: exceptions raised in a coroutine where it waits."""

import asyncio
import gc
import logging
import pickle
import re
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded, WorkerShutdown

from pico_celery_core.errors import HandlerCancelledError, HandlerExitError
from pico_celery_worker.loop.cancellation import CancelScope

Body = Callable[[asyncio.Event], Coroutine[Any, Any, Any]]


async def forever() -> None:
    await asyncio.Event().wait()


async def started(body: Body, **options: Any) -> tuple[CancelScope, asyncio.Task[Any]]:
    """Start a body under guard, and wait until it says that it waits."""
    cancel_scope, waits = CancelScope("tests.run[an-id]", **options), asyncio.Event()
    task = asyncio.create_task(cancel_scope.guard(body(waits)))
    await waits.wait()
    return cancel_scope, task


async def test_a_coroutine_that_nobody_interrupts_gives_its_value_or_its_error():
    async def value() -> int:
        await asyncio.sleep(0)
        return 3

    async def error() -> None:
        await asyncio.sleep(0)
        raise KeyError("x")

    assert await CancelScope().guard(value()) == 3
    with pytest.raises(KeyError):
        await CancelScope().guard(error())


async def test_a_soft_limit_can_be_caught_and_the_body_awaits_on():
    limits = []

    async def body() -> str:
        try:
            await forever()
        except SoftTimeLimitExceeded as error:
            limits.append(error.args)
        await asyncio.sleep(0)
        async with asyncio.timeout(60):
            await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))
        return "went on"

    assert await CancelScope().guard(body(), soft_limit=0.01) == "went on"
    assert limits == [(0.01,)]


async def test_a_soft_limit_that_is_not_caught_is_the_outcome():
    with pytest.raises(SoftTimeLimitExceeded):
        await CancelScope().guard(forever(), soft_limit=0.01)


async def test_a_soft_limit_leaves_a_lock_as_a_cancellation_would():
    lock = asyncio.Lock()
    loop = asyncio.get_running_loop()
    await lock.acquire()

    def release_when_time_is_up() -> None:
        lock.release()
        cancel_scope.soft_timeout(SoftTimeLimitExceeded())

    cancel_scope = CancelScope()
    loop.call_soon(loop.call_soon, release_when_time_is_up)
    with pytest.raises(SoftTimeLimitExceeded):
        await cancel_scope.guard(lock.acquire())
    async with asyncio.timeout(60), lock:
        pass


async def test_a_soft_limit_ends_a_group_of_tasks_and_is_caught_around_it():
    children = []

    async def body() -> str:
        try:
            async with asyncio.TaskGroup() as group:
                children.append(group.create_task(forever()))
        except SoftTimeLimitExceeded as error:
            return f"{error!r}, {type(pickle.loads(pickle.dumps(error)))}"
        return ""

    seen = await CancelScope().guard(body(), soft_limit=0.01)
    assert seen == f"{SoftTimeLimitExceeded(0.01)!r}, {SoftTimeLimitExceeded}"
    assert [child.cancelled() for child in children] == [True]


async def test_a_soft_limit_that_nobody_catches_is_celerys_own():
    async def body() -> None:
        try:
            await forever()
        except SoftTimeLimitExceeded as error:
            raise error from KeyError("x")

    with pytest.raises(SoftTimeLimitExceeded) as caught:
        await CancelScope().guard(body(), soft_limit=0.01)
    assert (caught.type, caught.value.args) == (SoftTimeLimitExceeded, (0.01,))
    assert isinstance(caught.value.__cause__, KeyError)
    assert "forever" in [frame.name for frame in caught.traceback]


async def test_a_hard_limit_is_the_outcome_whatever_the_body_makes_of_it():
    async def swallow() -> str:
        try:
            await forever()
        except asyncio.CancelledError:
            return "nothing happened"
        return ""

    async def fail() -> None:
        try:
            await forever()
        finally:
            raise KeyError("in the end")

    for body in (forever, swallow, fail):
        with pytest.raises(TimeLimitExceeded):
            await CancelScope().guard(body(), hard_limit=0.01)


async def test_limits_that_are_not_reached_leave_no_timer():
    loop = asyncio.get_running_loop()
    await CancelScope().guard(asyncio.sleep(0), soft_limit=1000, hard_limit=2000)
    assert all(timer.cancelled() for timer in loop._scheduled)


async def test_a_cancelled_body_runs_its_clean_up_and_awaits_in_it():
    seen = []

    async def body(waits: asyncio.Event) -> None:
        try:
            waits.set()
            await forever()
        finally:
            await asyncio.sleep(0)
            seen.append("cleaned up")

    cancel_scope, task = await started(body)
    cancel_scope.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cleaned up"]


async def test_the_second_soft_interruption_is_not_delivered():
    seen = []

    async def body(waits: asyncio.Event) -> str:
        waits.set()
        try:
            await forever()
        except SoftTimeLimitExceeded as error:
            seen.append(error.args)
        await asyncio.sleep(0)
        return "done"

    cancel_scope, task = await started(body)
    cancel_scope.soft_timeout(SoftTimeLimitExceeded(1))
    cancel_scope.soft_timeout(SoftTimeLimitExceeded(2))
    assert await task == "done"
    assert seen == [(1,)]


async def test_a_soft_interruption_after_a_cancellation_is_not_delivered():
    seen = []

    async def body(waits: asyncio.Event) -> None:
        waits.set()
        try:
            await forever()
        except asyncio.CancelledError as error:
            seen.append(type(error))
            await asyncio.sleep(0)
            raise

    cancel_scope, task = await started(body)
    cancel_scope.cancel()
    cancel_scope.soft_timeout(SoftTimeLimitExceeded())
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == [asyncio.CancelledError]


async def test_a_cancellation_overtakes_a_soft_interruption_that_was_not_delivered_yet():
    cancel_scope, task = await started(_wait)
    cancel_scope.soft_timeout(SoftTimeLimitExceeded())
    cancel_scope.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _wait(waits: asyncio.Event) -> None:
    waits.set()
    await forever()


@pytest.mark.parametrize("interrupt", ["cancel", "throw"])
async def test_an_interruption_before_the_first_step_runs_nothing_of_the_body(interrupt):
    seen = []

    async def body() -> None:
        seen.append("ran")

    cancel_scope = CancelScope()
    if interrupt == "cancel":
        cancel_scope.cancel()
    else:
        cancel_scope.soft_timeout(SoftTimeLimitExceeded())
    with pytest.raises(asyncio.CancelledError if interrupt == "cancel" else SoftTimeLimitExceeded):
        await cancel_scope.guard(body())
    assert seen == []


async def test_a_body_that_swallows_its_cancellation_is_closed_after_the_grace(caplog):
    seen = []

    async def body(waits: asyncio.Event) -> None:
        waits.set()
        try:
            while True:
                try:
                    await forever()
                except asyncio.CancelledError:
                    seen.append("swallowed")
        finally:
            seen.append("closed")

    cancel_scope, task = await started(body, grace_period=0.01)
    cancel_scope.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 60)
    assert seen == ["swallowed", "closed"]
    assert "Task tests.run[an-id] did not stop within 0.01 s after cancellation" in caplog.text


async def test_a_body_that_ends_within_the_grace_is_not_closed(caplog):
    async def body(waits: asyncio.Event) -> str:
        waits.set()
        try:
            await forever()
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
        return "late but fine"

    cancel_scope, task = await started(body, grace_period=5)
    cancel_scope.cancel()
    assert await task == "late but fine"
    assert caplog.records == []


async def test_a_body_that_ignores_even_its_closing_is_left_and_logged(caplog):
    patience = iter(range(2))

    async def body(waits: asyncio.Event) -> None:
        waits.set()
        while True:
            try:
                await forever()
            except asyncio.CancelledError:
                pass
            except GeneratorExit:
                if next(patience, None) == 1:
                    raise

    cancel_scope, task = await started(body, grace_period=0.01)
    cancel_scope.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 60)
    assert "Task tests.run[an-id] did not stop after cancellation" in caplog.text
    del cancel_scope, task
    gc.collect()


async def test_a_body_that_something_it_awaits_cancels_is_no_cancellation():
    async def body() -> None:
        cancelled = asyncio.get_running_loop().create_future()
        cancelled.cancel()
        await cancelled

    with pytest.raises(
        HandlerCancelledError, match=r"tests\.run\[an-id\] ended with CancelledError, but nobody"
    ) as caught:
        await CancelScope("tests.run[an-id]").guard(body())
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)


@pytest.mark.parametrize(
    "error",
    [SystemExit(3), WorkerShutdown(0), KeyboardInterrupt(), GeneratorExit(), BaseException("its own")],
    ids=repr,
)
async def test_what_a_body_raises_that_is_no_exception_is_a_failure(error):
    async def body() -> None:
        raise error

    with pytest.raises(HandlerExitError, match=re.escape(f"tests.run[an-id] raised {error!r}")) as caught:
        await CancelScope("tests.run[an-id]").guard(body())
    assert caught.value.__cause__ is error


async def test_what_a_body_raises_at_its_hard_limit_is_that_limit():
    async def body() -> None:
        try:
            await forever()
        finally:
            raise SystemExit(3)

    with pytest.raises(TimeLimitExceeded):
        await CancelScope().guard(body(), hard_limit=0.01)


async def test_a_cancellation_from_outside_stays_one():
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await CancelScope().guard(forever())


async def test_the_task_counts_a_soft_limit_until_the_body_has_caught_it():
    counts = []

    async def body(waits: asyncio.Event) -> None:
        task = asyncio.current_task()
        assert task is not None
        waits.set()
        try:
            try:
                await forever()
            finally:
                await asyncio.sleep(0)
                counts.append(task.cancelling())
        except SoftTimeLimitExceeded:
            counts.append(task.cancelling())
        counts.append(task.cancelling())

    cancel_scope, task = await started(body)
    cancel_scope.soft_timeout(SoftTimeLimitExceeded())
    await task
    assert counts == [1, 1, 0]


@pytest.mark.parametrize("through", ["timeout", "task group"])
async def test_timeouts_and_task_groups_inside_the_body_work_after_a_soft_limit(through):
    if through == "timeout" and sys.version_info < (3, 11, 3):
        pytest.skip("before Python 3.11.3 asyncio.timeout() does not end in a task that is being cancelled")

    async def body(waits: asyncio.Event) -> str:
        waits.set()
        try:
            await forever()
        except SoftTimeLimitExceeded:
            await use()
        await use()
        return "went on"

    async def use() -> None:
        if through == "timeout":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await forever()
        else:
            with pytest.raises(ExceptionGroup):
                await _failing_group()

    cancel_scope, task = await started(body)
    cancel_scope.soft_timeout(SoftTimeLimitExceeded())
    assert await task == "went on"


async def _failing_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(forever())
        group.create_task(_fail())


async def _fail() -> None:
    raise ValueError


@pytest.mark.parametrize("through", ["timeout", "task group", "gather", "shield"])
async def test_a_soft_limit_strikes_through_what_the_body_waits_in(through):
    async def body(waits: asyncio.Event) -> None:
        waits.set()
        if through == "timeout":
            async with asyncio.timeout(50):
                await forever()
        elif through == "task group":
            async with asyncio.TaskGroup() as group:
                group.create_task(forever())
        elif through == "gather":
            await asyncio.gather(forever(), forever())
        else:
            await asyncio.shield(asyncio.sleep(0.01))
            await forever()

    cancel_scope, task = await started(body)
    cancel_scope.soft_timeout(SoftTimeLimitExceeded())
    with pytest.raises((SoftTimeLimitExceeded, ExceptionGroup)):
        await asyncio.wait_for(task, 60)


async def test_an_interruption_when_all_is_over_does_nothing(caplog):
    cancel_scope = CancelScope()
    assert await cancel_scope.guard(asyncio.sleep(0, "done")) == "done"
    cancel_scope.soft_timeout(SoftTimeLimitExceeded())
    cancel_scope.cancel()
    await asyncio.sleep(0)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
