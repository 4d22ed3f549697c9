"""TaskInterceptor: what an application does around each execution of a handler."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

from pico_ioc import component

from pico_celery_core.priority import by_priority
from pico_celery_worker.execution.context import TaskContext

CallNext = Callable[[], Awaitable[Any]]


@runtime_checkable
class TaskInterceptor(Protocol):
    """Does something around each execution of a handler, within its scope.

    Each component that has the method is one; they need not inherit from this. One with the scope "task" or "prototype"
    is made for each execution, and may need what the handler's component needs. Those with a lower `priority` are
    further outside; without that attribute it is 0.

    Example:
        >>> import logging
        >>> from pico_ioc import component
        >>> @component
        ... class Trail:
        ...     async def intercept_task(self, context, call_next):
        ...         try:
        ...             return await call_next()
        ...         except Exception:
        ...             logging.warning("%s failed for the %d. time", context.name, context.retries + 1)
        ...             raise
    """

    async def intercept_task(self, context: TaskContext, call_next: CallNext) -> Any:
        """Run the handler, by `call_next`, and return the task's value.

        Args:
            context: The execution.
            call_next: Makes the handler's component, runs the handler, and returns its value. What it raises is the
                handler's, time limits, cancellation, and Celery's `Retry`, `Ignore` and `Reject` included: pass on
                what is not yours.
        """
        ...


@component(scope="prototype")
class TaskInterceptors:
    """The interceptors of one execution.

    Args:
        context: The execution.
        interceptors: All that the container has.
    """

    def __init__(self, context: TaskContext, interceptors: Sequence[TaskInterceptor]) -> None:
        self._context = context
        self._from_inside_out = by_priority(interceptors)[::-1]

    async def call(self, handler: CallNext) -> Any:
        """Run a handler within all of them.

        Args:
            handler: Runs the handler.
        """
        for interceptor in self._from_inside_out:
            handler = partial(interceptor.intercept_task, self._context, handler)
        return await handler()
