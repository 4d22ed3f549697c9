"""No asyncio task that an execution starts outlives it."""

import asyncio
import contextvars
import sys
from typing import Any

import pytest
from pico_ioc import component

from pico_celery import task
from pico_celery_worker.execution.execution import Execution
from pico_celery_worker.execution.scope import TaskScope
from pico_celery_worker.loop import child_tasks as leftovers
from pico_celery_worker.loop.thread import ThreadRunner
from tests.unit.worker.containers import bare_container


@pytest.fixture
async def loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(leftovers.task_factory)
    return loop


def scope(timeout: float = 5) -> TaskScope:
    return TaskScope(bare_container(), "tests.run[an-id]", timeout)


async def forever() -> None:
    await asyncio.Event().wait()


async def test_what_is_left_running_is_cancelled_awaited_and_logged(loop, caplog):
    seen = []

    async def left() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            seen.append("ended")

    async with scope():
        running = loop.create_task(left())
        await asyncio.sleep(0)
    assert running.cancelled()
    assert seen == ["ended"]
    assert "Task tests.run[an-id] left 1 asyncio tasks running, which are cancelled" in caplog.text
    assert "left" in caplog.text


async def test_tasks_that_child_tasks_start_count_too(loop):
    grandchildren = []

    async def child() -> None:
        grandchildren.append(loop.create_task(forever()))

    async with scope():
        await loop.create_task(child())
    assert [task.cancelled() for task in grandchildren] == [True]


async def test_what_was_awaited_is_not_mentioned(loop, caplog):
    async with scope():
        await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
        await asyncio.wait_for(asyncio.sleep(0), 60)
    assert caplog.records == []


async def test_one_that_has_just_ended_is_not_mentioned(loop, caplog):
    async def quick() -> None: ...

    async with scope():
        task = loop.create_task(quick())
        await asyncio.sleep(0)
        assert task.done()
    assert caplog.records == []


async def test_one_that_does_not_end_holds_the_execution_up_no_longer_than_the_grace(loop, caplog):
    enough = asyncio.Event()

    async def stubborn() -> None:
        while not enough.is_set():
            try:
                await enough.wait()
            except asyncio.CancelledError:
                continue

    async with scope(timeout=0.01):
        running = loop.create_task(stubborn())
        await asyncio.sleep(0)
    assert not running.done()
    assert "1 asyncio tasks that task tests.run[an-id] left do not end" in caplog.text
    enough.set()
    await running


async def test_one_that_fails_when_it_is_cancelled_is_logged(loop, caplog):
    async def failing() -> None:
        try:
            await forever()
        finally:
            raise ValueError("on the way out")

    async with scope():
        loop.create_task(failing())
        await asyncio.sleep(0)
    assert "An asyncio task that task tests.run[an-id] left failed" in caplog.text
    assert "on the way out" in caplog.text


@pytest.mark.skipif(sys.version_info[:3] == (3, 13, 0), reason="a loop names what a factory makes None there")
async def test_a_task_of_an_executions_own_is_named_after_it(loop):
    async with scope():
        child = loop.create_task(asyncio.sleep(0))
        await child
    assert child.get_name().startswith("tests.run[an-id] ")


async def test_a_task_keeps_the_name_it_is_given(loop):
    async with scope():
        child = loop.create_task(asyncio.sleep(0), name="fetch")
        await child
    assert child.get_name() == "fetch"


async def test_a_context_of_its_own_lets_no_task_escape(loop):
    async with scope():
        running = loop.create_task(forever(), context=contextvars.copy_context())
        await asyncio.sleep(0)
    assert running.cancelled()


async def test_what_is_started_while_others_are_cancelled_is_cancelled_too(loop, caplog):
    last = []

    async def first() -> None:
        try:
            await forever()
        finally:
            last.append(loop.create_task(forever()))

    async with scope():
        loop.create_task(first())
        await asyncio.sleep(0)
    assert [task.cancelled() for task in last] == [True]
    assert "do not end" not in caplog.text


async def test_tasks_outside_of_executions_are_left_alone(loop):
    outside = loop.create_task(forever())
    async with scope():
        await asyncio.sleep(0)
    assert not outside.done()
    outside.cancel()


def test_executions_at_the_same_time_end_only_their_own(app, container, caplog):
    runner = ThreadRunner()
    tasks: dict[str, asyncio.Task[Any]] = {}

    @component(scope="prototype")
    class ChildTasks:
        @task("leave")
        async def leave(self, name: str) -> None:
            tasks[name] = asyncio.create_task(forever())
            await asyncio.sleep(0)

    container(ChildTasks)
    handler = app.tasks["leave"]

    async def both() -> tuple[bool, bool]:
        second = Execution(handler.executor, handler, ("second",), {})
        blocked = asyncio.Event()

        async def wait() -> None:
            tasks["first"] = asyncio.create_task(forever())
            await blocked.wait()

        async with scope():
            first = asyncio.create_task(wait())
            await asyncio.create_task(second.run(), context=None)
            state = tasks["second"].cancelled(), "first" in tasks and tasks["first"].cancelled()
            blocked.set()
            await first
        return state

    try:
        assert runner.run(both()) == (True, False)
    finally:
        runner.close()
