"""TaskResult: Celery's AsyncResult that can also be awaited."""

import asyncio
import functools
import math
from collections.abc import AsyncGenerator, Generator, Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar, cast, overload

from celery import Celery
from celery.result import AsyncResult

from pico_celery_client.per_app import PerApp
from pico_celery_client.results.cancellation import cancellations_of
from pico_celery_client.results.listener import Meta, is_ready, listener_for, state_key
from pico_celery_core.errors import ResultTimeoutError
from pico_celery_core.progress import PROGRESS, Progress
from pico_celery_core.timeouts import Timeouts
from pico_celery_core.values.details import revived
from pico_celery_core.values.returned import ReturnedValue

_timeouts: Final = PerApp(Timeouts.of)

_R = TypeVar("_R")
_A = TypeVar("_A")
_B = TypeVar("_B")
_C = TypeVar("_C")
_D = TypeVar("_D")


class TaskResult(AsyncResult, Generic[_R]):  # type: ignore[misc]  # Celery has no types
    """The result of a task that was sent: a `celery.result.AsyncResult` that can also be awaited.

    Example:
        >>> async def confirm(client, order: int) -> str:
        ...     result = await client.confirm(order)  # sent
        ...     return await result  # done
    """

    if TYPE_CHECKING:
        id: str
        state: str
        status: str

    def __init__(self, *args: Any, returned: ReturnedValue | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # What the stub declares; None where it declares nothing, and for results that were not made by a stub.
        self.returned = returned
        # The RPC backend's replies go to a queue of the thread that has sent: this one, unless this is a copy.
        self.reply_to = getattr(self.backend, "oid", None)

    def __copy__(self) -> "TaskResult[_R]":
        copied = cast("TaskResult[_R]", super().__copy__())
        copied.reply_to, copied.returned = self.reply_to, self.returned
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        return (*super().__reduce__(), {"reply_to": self.reply_to, "returned": self.returned})

    def __await__(self) -> Generator[Any, None, _R]:
        return self.wait().__await__()

    def get(self, timeout: float | None = None, *args: Any, **kwargs: Any) -> _R:
        """Wait for the task's value, and block the thread meanwhile, as Celery's `AsyncResult.get`.

        Args:
            timeout: How long to wait, in seconds; without it, `pico_result_timeout`, which by default is no limit.
                `math.inf` waits for as long as it takes.
            *args: What else Celery takes.
            **kwargs: What else Celery takes.

        Returns:
            What the handler returned.

        Raises:
            celery.exceptions.TimeoutError: If no value has come in time. The task goes on.
            ResultTypeError: If the value does not fit the stub's return annotation.
            Exception: What the handler raised.
        """
        value: Any = super().get(self._limit(timeout), *args, **kwargs)
        if self.returned is not None and not self.ignored and not isinstance(value, BaseException):
            value = self.returned.load(value)
        return cast("_R", value)

    async def wait(self, timeout: float | None = None) -> _R:
        """Wait for the task's value without blocking the event loop.

        Args:
            timeout: How long to wait, in seconds; without it, `pico_result_timeout`, which by default is no limit.
                `math.inf` waits for as long as it takes. 0 leaves no time to ask the result backend: it times out
                unless the value was read before.

        Returns:
            What the handler returned; None at once for a task that was sent with `ignore_result`.

        Raises:
            ResultTimeoutError: If no value has come in time. It is a TimeoutError. The task goes on.
            ResultTypeError: If the value does not fit the stub's return annotation.
            Exception: What the handler raised.
        """
        await self.until_ready(timeout)
        return self.get(disable_sync_subtasks=False)

    async def until_ready(self, timeout: float | None = None) -> None:
        """Wait until the task has ended, however it ends, without blocking the event loop.

        Args:
            timeout: How long to wait, in seconds, as for `wait`.

        Raises:
            ResultTimeoutError: If it has not ended in time.
        """
        if not self.ignored:
            async with aclosing(self._metas(timeout)) as metas:
                async for _ in metas:
                    pass

    async def cancel(self, timeout: float = 5) -> bool:
        """Cancel the task, wherever it is: in the queue, waiting for its `eta`, or running.

        Args:
            timeout: How long to wait until that is certain, in seconds.

        Returns:
            True once it is certain that the task does not run, or not to its end; its state is REVOKED. False if it had
            ended before.

        Raises:
            CancelTimeoutError: If neither has become certain in time. It is a TimeoutError.

        Example:
            >>> async def build(client, is_wanted: bool) -> None:
            ...     result = await client.build_report()
            ...     if not is_wanted and await result.cancel():
            ...         print("It does not run.")
        """
        return await cancellations_of(cast("Celery", self.app)).cancel(self, timeout)

    @overload
    def progress(self, *, latest: bool = False) -> AsyncGenerator[Progress]: ...

    @overload
    def progress(self, details: type[_A], *, latest: bool = False) -> AsyncGenerator[Progress[_A]]: ...

    async def progress(self, details: Any = None, *, latest: bool = False) -> AsyncGenerator[Progress[Any]]:
        """Follow how far the task says it is, until it has ended.

        Args:
            details: The type of the details that its handler tells; without it, they are as JSON has them.
            latest: Whether steps that are old already, when the loop asks for the next one, are left out: for a page
                that shows how far the task is now. Without it, all that have come are yielded, one by one.

        Yields:
            What its handler passes to `TaskContext.progress`, in that order, from the step at which the task is now on.
            A result backend that is polled, which is any but Redis, does not tell of steps that another one follows
            before it is asked again.

        Raises:
            ResultTimeoutError: If the task has not ended within `pico_result_timeout`. It goes on.
            ResultTypeError: If the details of a step are not of the type.

        Example:
            >>> async def show(client) -> None:
            ...     result = await client.build_report()
            ...     async for step in result.progress():
            ...         print(step.current, step.total, step.message)
            ...     print(await result)
        """
        if not self.ignored:
            async with aclosing(self._metas(latest=latest)) as metas:
                async for meta in metas:
                    if meta["status"] == PROGRESS:
                        step = Progress.from_meta(meta["result"])
                        yield step if details is None else revived(step, self._task_name, details)

    @property
    def _task_name(self) -> str:
        """The task's name, as far as it is known."""
        return self.returned.task if self.returned is not None else str(self.name or self.id)

    def _limit(self, timeout: float | None) -> float | None:
        """Return how long to wait, in seconds, where the caller has said `timeout`; None for no limit."""
        limit = _timeouts.of(cast("Celery", self.app)).result or None if timeout is None else timeout
        return None if limit == math.inf else limit

    async def _metas(self, timeout: float | None = None, *, latest: bool = False) -> AsyncGenerator[Meta]:
        """What the result backend says of the task, each time that changes, until it is ready; or what it says last."""
        meta: Meta | None = self._cache
        if meta is not None:
            yield meta
            return
        limit = self._limit(timeout)
        due = None if limit is None else asyncio.get_running_loop().time() + limit
        with listener_for(cast("Celery", self.app)).listening(self) as queue:
            while True:
                # Around each step and not around all: between them runs the code of who follows the progress.
                try:
                    async with asyncio.timeout_at(due):
                        news = await queue.get()
                except TimeoutError:
                    raise ResultTimeoutError(self.id, limit or 0) from None
                while latest and not queue.empty():
                    news = queue.get_nowait()
                if isinstance(news, Exception):
                    raise news
                if meta is not None and state_key(news) == state_key(meta):  # read and published at once
                    continue
                meta = news
                if is_ready(meta):
                    self._maybe_set_cache(meta)
                yield meta
                if is_ready(meta):
                    return


# As with asyncio.gather, values of different types have the type of a tuple, so that each keeps its own, in what is a
# list all the same.
@overload
async def gather_results(
    *results: TaskResult[_R], timeout: float | None = None, return_exceptions: Literal[False] = False
) -> list[_R]: ...
@overload
async def gather_results(
    a: TaskResult[_A],
    b: TaskResult[_B],
    /,
    *,
    timeout: float | None = None,
    return_exceptions: Literal[False] = False,
) -> tuple[_A, _B]: ...
@overload
async def gather_results(
    a: TaskResult[_A],
    b: TaskResult[_B],
    c: TaskResult[_C],
    /,
    *,
    timeout: float | None = None,
    return_exceptions: Literal[False] = False,
) -> tuple[_A, _B, _C]: ...
@overload
async def gather_results(
    a: TaskResult[_A],
    b: TaskResult[_B],
    c: TaskResult[_C],
    d: TaskResult[_D],
    /,
    *,
    timeout: float | None = None,
    return_exceptions: Literal[False] = False,
) -> tuple[_A, _B, _C, _D]: ...
@overload
async def gather_results(
    *results: TaskResult[Any], timeout: float | None = None, return_exceptions: Literal[False] = False
) -> list[Any]: ...
@overload
async def gather_results(
    *results: TaskResult[_R], timeout: float | None = None, return_exceptions: Literal[True]
) -> list[_R | Exception]: ...
@overload
async def gather_results(
    a: TaskResult[_A], b: TaskResult[_B], /, *, timeout: float | None = None, return_exceptions: Literal[True]
) -> tuple[_A | Exception, _B | Exception]: ...
@overload
async def gather_results(
    a: TaskResult[_A],
    b: TaskResult[_B],
    c: TaskResult[_C],
    /,
    *,
    timeout: float | None = None,
    return_exceptions: Literal[True],
) -> tuple[_A | Exception, _B | Exception, _C | Exception]: ...
@overload
async def gather_results(
    a: TaskResult[_A],
    b: TaskResult[_B],
    c: TaskResult[_C],
    d: TaskResult[_D],
    /,
    *,
    timeout: float | None = None,
    return_exceptions: Literal[True],
) -> tuple[_A | Exception, _B | Exception, _C | Exception, _D | Exception]: ...
@overload
async def gather_results(
    *results: TaskResult[Any], timeout: float | None = None, return_exceptions: Literal[True]
) -> list[Any]: ...


async def gather_results(
    *results: TaskResult[Any], timeout: float | None = None, return_exceptions: bool = False
) -> Any:
    """Wait for several results at once.

    Args:
        *results: What to wait for.
        timeout: How long to wait altogether, in seconds; without it, `pico_result_timeout`.
        return_exceptions: Return exceptions in the places of the values, instead of raising the first: what a handler
            raised, or `ResultTimeoutError` for one that has not come in time.

    Returns:
        A list of their values, in the order of the results.

    Raises:
        ResultTimeoutError: If one has not come in time.
        Exception: What the first handler to fail raised. The others are no longer waited for; their tasks go on.

    Example:
        >>> async def confirm_all(client, orders: list[int]) -> list[str]:
        ...     return await gather_results(*[await client.confirm(order) for order in orders])
    """
    if return_exceptions:
        return await asyncio.gather(*(_value_or_error(result, timeout) for result in results))
    try:
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(result.wait(timeout)) for result in results]
    except BaseExceptionGroup as failed:
        error = failed.exceptions[0]
    else:
        return [task.result() for task in waiting]
    raise error


async def _value_or_error(result: TaskResult[Any], timeout: float | None) -> Any:
    try:
        return await result.wait(timeout)
    except Exception as error:  # noqa: BLE001  # the caller's
        return error


async def cancel_all(*results: TaskResult[Any], timeout: float = 5) -> list[bool]:
    """Cancel several tasks at once.

    Args:
        *results: The results of the tasks.
        timeout: How long to wait altogether, in seconds.

    Returns:
        For each whether it is cancelled, as from `TaskResult.cancel`, in the order of the results.

    Raises:
        CancelTimeoutError: If that has not become certain in time of one of them. All are being cancelled all the same.

    Example:
        >>> async def give_up(results: list[TaskResult[str]]) -> int:
        ...     return sum(await cancel_all(*results))
    """
    cancelled = await asyncio.gather(*(result.cancel(timeout) for result in results), return_exceptions=True)
    for outcome in cancelled:
        if isinstance(outcome, BaseException):
            raise outcome
    return [bool(outcome) for outcome in cancelled]


async def as_completed(
    results: Iterable[TaskResult[_R]], *, timeout: float | None = None
) -> AsyncGenerator[TaskResult[_R]]:
    """Follow several tasks, and get the result of each as soon as it has ended.

    Args:
        results: What to wait for.
        timeout: How long to wait altogether, in seconds; without it, `pico_result_timeout`.

    Yields:
        The results, in the order in which their tasks end, however they end. To await one gives its value at once, or
        raises what its handler raised.

    Raises:
        ResultTimeoutError: If some have not ended in time. Their tasks go on.

    Example:
        >>> async def show(client, orders: list[int]) -> None:
        ...     async for result in as_completed([await client.confirm(order) for order in orders]):
        ...         print(await result)
    """
    ended: asyncio.Queue[tuple[TaskResult[_R], asyncio.Task[None]]] = asyncio.Queue()
    waiting: list[asyncio.Task[None]] = []
    for result in results:
        task = asyncio.ensure_future(result.until_ready(timeout))
        task.add_done_callback(functools.partial(_put, ended, result))
        waiting.append(task)
    try:
        for _ in range(len(waiting)):
            result, task = await ended.get()
            task.result()  # raises what has kept it from being waited for
            yield result
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


def _put(
    ended: asyncio.Queue[tuple[TaskResult[_R], asyncio.Task[None]]], result: TaskResult[_R], task: asyncio.Task[None]
) -> None:
    ended.put_nowait((result, task))
