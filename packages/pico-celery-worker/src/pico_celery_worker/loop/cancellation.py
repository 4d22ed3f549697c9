"""Time limits, revocation and shutdown, delivered into the coroutine."""

import asyncio
import logging
import types
from collections.abc import Coroutine, Generator
from typing import Any, Final, NoReturn, TypeVar

from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded
from kombu.utils.encoding import safe_repr

from pico_celery_core.errors import HandlerCancelledError, HandlerExitError

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

_CLOSE: Final = GeneratorExit()

# Part of kombu has types, and this has not.
_shown: Any = safe_repr


class _SoftTimeLimitError(SoftTimeLimitExceeded, asyncio.CancelledError):  # type: ignore[misc]
    """A soft time limit, where a coroutine waits.

    asyncio itself tidies up after a CancelledError alone: the lock that is waited for, the group whose tasks run.
    """

    def __reduce__(self) -> tuple[type[SoftTimeLimitExceeded], tuple[Any, ...]]:
        return SoftTimeLimitExceeded, self.args


# What a handler logs of it is Celery's own.
_SoftTimeLimitError.__name__ = _SoftTimeLimitError.__qualname__ = SoftTimeLimitExceeded.__name__
_SoftTimeLimitError.__module__ = SoftTimeLimitExceeded.__module__


class Interruption:
    """Raises exceptions in a running coroutine, where it waits.

    asyncio can only cancel a task. This stands between the task and the coroutine and turns a cancellation that it
    asked for itself into the exception that is meant: a soft time limit, which the body may catch and go on, or a
    cancellation that the body may not outlive. A body that swallows that is closed when its time is up.

    Args:
        label: Names the execution in the log.
        grace: How long a cancelled coroutine may take to end, in seconds.
    """

    __slots__ = ("_cancelled", "_error", "_grace", "_hard_limit", "_soft", "_task", "_timers", "label")

    def __init__(self, label: str = "", grace: float = 10) -> None:
        self.label = label
        self._grace = grace
        self._task: asyncio.Task[Any] | None = None
        self._error: BaseException | None = None
        self._soft = False
        self._cancelled = False
        self._hard_limit: float | None = None
        self._timers: list[asyncio.TimerHandle] = []

    @property
    def task(self) -> asyncio.Task[Any] | None:
        """The asyncio task whose coroutine is interrupted, while it runs."""
        return self._task

    def throw(self, error: SoftTimeLimitExceeded) -> None:
        """Raise a soft time limit in the coroutine; the second one, and one after `cancel`, is not delivered.

        Args:
            error: What to raise. The coroutine may catch it and go on.
        """
        if not self._cancelled and not self._soft:
            self._soft = True
            self._interrupt(_SoftTimeLimitError(*error.args))

    def cancel(self) -> None:
        """Cancel the coroutine, and close it if it still goes on after the time of grace."""
        if self._cancelled:
            return
        self._cancelled = True
        self._interrupt(asyncio.CancelledError())
        if self._task is not None:
            self._timers.append(self._task.get_loop().call_later(self._grace, self._close))

    async def guard(
        self, coroutine: Coroutine[Any, Any, _T], *, soft_limit: float | None = None, hard_limit: float | None = None
    ) -> _T:
        """Await a coroutine in such a way that it can be interrupted.

        Args:
            coroutine: What to await.
            soft_limit: After how many seconds SoftTimeLimitExceeded is raised in it.
            hard_limit: After how many seconds it is cancelled.

        Returns:
            What the coroutine returns.

        Raises:
            TimeLimitExceeded: If it reached the hard limit, whatever it made of that.
            HandlerCancelledError: If it ended as cancelled though nobody interrupted it.
            HandlerExitError: If it raised what is no Exception, such as SystemExit.
        """
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        cancelled_before = task.cancelling() if task else 0
        if soft_limit is not None:
            self._timers.append(loop.call_later(soft_limit, self.throw, SoftTimeLimitExceeded(soft_limit)))
        if hard_limit is not None:
            self._timers.append(loop.call_later(hard_limit, self._time_out, hard_limit))
        try:
            value: _T = await self._drive(coroutine)
        except BaseException as error:
            if self._hard_limit is not None:
                raise TimeLimitExceeded(self._hard_limit) from (error if isinstance(error, Exception) else None)
            if isinstance(error, _SoftTimeLimitError):
                raise SoftTimeLimitExceeded(*error.args).with_traceback(error.__traceback__) from error.__cause__
            if isinstance(error, Exception):
                raise
            if not isinstance(error, asyncio.CancelledError):
                raise HandlerExitError(self.label, _shown(error)) from error
            if self._cancelled or (task and task.cancelling() > cancelled_before):
                raise
            raise HandlerCancelledError(self.label) from error
        finally:
            self._task = None
            for timer in self._timers:
                timer.cancel()
        if self._hard_limit is not None:
            raise TimeLimitExceeded(self._hard_limit)
        return value

    @types.coroutine
    def _drive(self, coroutine: Coroutine[Any, Any, _T]) -> Generator[Any, Any, _T]:
        """Await a coroutine by hand, and replace the cancellations that were asked for here."""
        self._task = asyncio.current_task()
        if self._error is not None:
            coroutine.close()
            raise self._error  # before the first step: nothing of the body runs
        try:
            waiting_for = coroutine.send(None)
            while True:
                try:
                    yield waiting_for
                except BaseException as error:  # noqa: BLE001  # whatever it is, it is the coroutine's
                    meant = self._meant_by(error)
                    waiting_for = coroutine.throw(meant) if meant is not _CLOSE else self._give_up(coroutine)
                else:
                    waiting_for = coroutine.send(None)
        except StopIteration as stop:
            value: _T = stop.value
            return value

    def _meant_by(self, error: BaseException) -> BaseException:
        meant, self._error = self._error, None
        if meant is None or self._task is None or not isinstance(error, asyncio.CancelledError):
            return error
        self._task.uncancel()
        return meant

    def _give_up(self, coroutine: Coroutine[Any, Any, Any]) -> NoReturn:
        try:
            coroutine.close()
        except RuntimeError:
            logger.error("Task %s refuses to be closed: it is left where it waits", self.label)
        raise asyncio.CancelledError

    def _time_out(self, limit: float) -> None:
        if not self._cancelled:
            self._hard_limit = limit
            self.cancel()

    def _close(self) -> None:
        logger.error(
            "Task %s was cancelled and still ran %s s later: closing it where it waits", self.label, self._grace
        )
        self._interrupt(_CLOSE)

    def _interrupt(self, error: BaseException) -> None:
        self._error = error
        if self._task is not None:
            self._task.cancel()
