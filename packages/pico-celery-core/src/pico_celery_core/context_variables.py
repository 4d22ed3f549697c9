"""ContextVariableInterceptor: a context variable that goes with the tasks."""

from collections.abc import Awaitable, Callable, Generator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any


class ContextVariableInterceptor:
    """Carries a context variable, such as a request's id or a tenant, from who sends a task to its handler.

    It is a `SendInterceptor` and a `TaskInterceptor` in one: where the variable is set when a task is sent, its value
    goes with the message in a header; while the handler runs, and its component is made, the variable has that value.
    So has each task that the handler sends in turn, and a retry.

    Derive a component from it, and have it on both sides. The value must be one that the serializer can encode.

    Args:
        variable: The context variable.
        header: The name of the message's header.

    Example:
        >>> from contextvars import ContextVar
        >>> from pico_celery import ContextVariableInterceptor
        >>> from pico_ioc import component
        >>> tenant = ContextVar("tenant")
        >>> @component
        ... class Tenant(ContextVariableInterceptor):
        ...     def __init__(self):
        ...         super().__init__(tenant, "x-tenant")
    """

    def __init__(self, variable: ContextVar[Any], header: str) -> None:
        self._variable = variable
        self._header = header

    @contextmanager
    def intercept_send(self, task: Any) -> Generator[None]:
        """Put the variable's value, if it has one, into a header. A header that is there already stays.

        Args:
            task: The `OutgoingTask`.
        """
        value = self._variable.get(None)
        headers: MutableMapping[str, Any] = task.headers
        if value is not None:
            headers.setdefault(self._header, value)
        yield

    async def intercept_task(self, context: Any, call_next: Callable[[], Awaitable[Any]]) -> Any:
        """Run the handler with the value that came with the message.

        Args:
            context: The `TaskContext`.
            call_next: Runs the handler.
        """
        value = context.headers.get(self._header)
        if value is None:
            return await call_next()
        token = self._variable.set(value)
        try:
            return await call_next()
        finally:
            self._variable.reset(token)
