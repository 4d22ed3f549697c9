"""Makes `celery.current_task` and `task.request` right inside coroutines.

Celery keeps both on stacks that belong to the greenlet or thread which runs the task. A coroutine runs elsewhere, in
the event loop's greenlet or thread, so its stacks are those of the greenlet or thread that waits for it. A context
variable says which one that is; child tasks and `asyncio.to_thread` inherit it.

Celery has no public way to say whose stack is meant: the stack object's `__ident_func__` and `celery._state` are
private, read in Celery 5.7.0. tests/unit/worker/loop/test_current_task.py holds them to it.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from celery import Task
from celery._state import _task_stack, pop_current_task, push_current_task
from celery.utils.threads import get_ident

_waiting: Final[ContextVar[Any]] = ContextVar("pico_celery_waiting", default=None)

# The task whose handler runs in this context. Celery's current task is another one where the handler was awaited.
executing: Final[ContextVar[Task | None]] = ContextVar("pico_celery_executing", default=None)


def bind_current_stack() -> None:
    """Note that the calling thread or greenlet waits for the coroutines that are started in this context.

    In a thread or greenlet that a coroutine has started, someone waits already, whose stacks hold what runs here too.
    """
    _waiting.set(_ident())


def make_coroutine_aware(stack: Any) -> None:
    """Let a stack of Celery's be found from coroutines, and the stack of current tasks with it."""
    stack.__ident_func__ = _ident
    _task_stack.__ident_func__ = _ident


@contextmanager
def pushed(task: Task, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Generator[None]:
    """Make a task that is called directly, without a message, the current one."""
    push_current_task(task)
    task.push_request(args=args, kwargs=kwargs)
    try:
        yield
    finally:
        task.pop_request()
        pop_current_task()


# Celery asks a dozen times a task, so what is called stands at hand.
def _ident(waiting: Callable[[], Any] = _waiting.get, here: Callable[[], Any] = get_ident) -> Any:
    return waiting() or here()
