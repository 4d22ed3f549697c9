"""The asyncio tasks that an execution starts: none of them outlives it."""

import asyncio
import logging
from collections.abc import Coroutine, Generator
from contextvars import Context, ContextVar
from typing import Any, Final

from pico_celery_worker.loop.log_fields import fields_of_label

logger = logging.getLogger(__name__)


class ChildTasks(set[asyncio.Task[Any]]):
    """The asyncio tasks that one execution has started.

    Args:
        label: Names the execution.
    """

    def __init__(self, label: str) -> None:
        super().__init__()
        self.label = label


# Where the tasks that are started in this context are collected.
started: Final[ContextVar[ChildTasks | None]] = ContextVar("pico_celery_started", default=None)


def task_factory(
    loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
    context: Context | None = None,
    **options: Any,
) -> asyncio.Task[Any]:
    """Make a task and note it with the execution that starts it: for `loop.set_task_factory`."""
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, context=context, **options)
    tasks = started.get() if context is None else context.get(started)
    if tasks is not None:
        if options.get("name") is None:
            task.set_name(f"{tasks.label} {task.get_name()}")
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    return task


async def cancel(tasks: ChildTasks, grace_period: float) -> None:
    """Cancel what an execution has left running, and wait for it to end.

    Args:
        tasks: What it has started.
        grace_period: How long to wait, in seconds.
    """
    # One that has just ended is still among them until the loop's next turn.
    running, label = [task for task in tasks if not task.done()], tasks.label
    if not running:
        return
    logger.warning(
        "Task %s left %d asyncio tasks running, which are cancelled: %s. Await them, or start them elsewhere",
        label,
        len(running),
        ", ".join(str(task.get_coro()) for task in running),
        extra=fields_of_label("child-tasks-left", label),
    )
    loop = asyncio.get_running_loop()
    deadline = loop.time() + grace_period
    while running and loop.time() < deadline:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=deadline - loop.time())
        for task in running:
            if task.done() and not task.cancelled() and task.exception() is not None:
                fields = fields_of_label("child-task-failed", label)
                logger.error("An asyncio task that task %s left failed", label, exc_info=task.exception(), extra=fields)
        running = [task for task in tasks if not task.done()]  # they may have started others
    if running:
        fields = fields_of_label("child-tasks-not-ended", label)
        logger.error("%d asyncio tasks that task %s left do not end", len(running), label, extra=fields)
