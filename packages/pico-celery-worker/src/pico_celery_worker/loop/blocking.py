"""A way out for blocking code."""

from collections.abc import Callable
from typing import Any, TypeVar

from pico_celery_worker.loop import runner_class

_T = TypeVar("_T")


async def run_blocking(function: Callable[..., _T], /, *args: Any, **kwargs: Any) -> _T:
    """Run a function that waits, without holding up the event loop.

    Under gevent and eventlet it runs in a greenlet: right for libraries that wait on patched sockets or locks, and
    without a thread. On other pools it runs in a thread, as `asyncio.to_thread` would. What holds the processor rather
    than waits belongs into another process.

    Args:
        function: What to call.
        *args: Its positional arguments.
        **kwargs: Its keyword arguments.

    Returns:
        What it returns.

    Raises:
        Exception: What it raises; a RuntimeError for StopIteration, which no coroutine can raise.

    Example:
        >>> import asyncio, time
        >>> async def nap() -> None:
        ...     await run_blocking(time.sleep, 0.01)
        >>> asyncio.run(nap())
    """

    def call() -> _T:
        try:
            return function(*args, **kwargs)
        except StopIteration as error:
            raise RuntimeError(f"{function!r} raised StopIteration") from error

    value: _T = await runner_class().run_blocking(call)
    return value
