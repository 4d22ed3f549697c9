"""SendInterceptor: what an application does around each sending of a task."""

from collections.abc import Generator, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


@dataclass(slots=True)
class OutgoingTask:
    """A task that is about to be sent.

    Args:
        name: The task's name.
        args: Its positional arguments, as the message has them.
        kwargs: Its keyword arguments, as the message has them.
        options: What it is sent with: Celery's options, such as `queue` and `priority`. May be changed.
        headers: The message's own headers. May be changed.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    options: dict[str, Any]
    headers: dict[str, Any]


@runtime_checkable
class SendInterceptor(Protocol):
    """Does something around each sending of a task by a client.

    Each component that has the method is one; they need not inherit from this. Those with a lower `priority` are
    further outside; without that attribute it is 0. Interceptors are singletons, as the clients that use them.

    Example:
        >>> from contextlib import contextmanager
        >>> from pico_ioc import component
        >>> @component
        ... class Origin:
        ...     priority = 10
        ...
        ...     @contextmanager
        ...     def intercept_send(self, task):
        ...         task.headers["x-origin"] = "shop"
        ...         yield
    """

    def intercept_send(self, task: OutgoingTask) -> AbstractContextManager[Any]:
        """Return a context manager, in which the task is sent. What it raises is what the caller gets.

        Args:
            task: The task. Its options and headers are this message's alone.
        """
        ...


@contextmanager
def around_sending(
    interceptors: Iterable[SendInterceptor],
    name: str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Generator[Mapping[str, Any]]:
    """Enter all interceptors for one sending.

    Args:
        interceptors: In their order.
        name: The task's name.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        options: What it is sent with.

    Yields:
        The options as the interceptors want them.
    """
    task = OutgoingTask(name, args, kwargs, dict(options), dict(options.get("headers") or {}))
    with ExitStack() as stack:
        for interceptor in interceptors:
            stack.enter_context(interceptor.intercept_send(task))
        yield {**task.options, "headers": task.headers}
