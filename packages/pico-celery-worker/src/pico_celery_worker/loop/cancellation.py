"""Time limits, revocation and shutdown, delivered into the coroutine."""

import asyncio
import logging
import types
import weakref
from collections.abc import Callable, Coroutine, Generator
from contextvars import ContextVar
from typing import Any, Final, NoReturn, TypeVar

from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded
from kombu.utils.encoding import safe_repr

from pico_celery_core.errors import HandlerCancelledError, HandlerExitError
from pico_celery_worker.loop.log_fields import fields_of_label

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

_CLOSE: Final = GeneratorExit()

# Set by a pool that wants to cancel the coroutine for which it waits: called with what cancels it, in any thread.
set_canceller: Final[ContextVar[Callable[[Callable[[], None]], None] | None]] = ContextVar(
    "set_canceller", default=None
)

# Set for the caller of a coroutine that has returned: who is killed from then on has run to its end all the same.
has_returned: Final[ContextVar[bool]] = ContextVar("has_returned", default=False)

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


class CancelScope:
    """Raises exceptions in a running coroutine, where it waits.

    asyncio can only cancel a task. This stands between the task and the coroutine and turns a cancellation that it
    asked for itself into the exception that is meant: a soft time limit, which the body may catch and go on, or a
    cancellation that the body may not outlive. A body that swallows that is closed when its time is up.

    For as long as such an exception unwinds the body, `task.cancelling()` counts it, by which asyncio's and anyio's
    groups and timeouts tell it from cancellations of their own. A soft limit that the body has caught counts no more.

    Args:
        label: Names the execution in the log.
        grace_period: How long a cancelled coroutine may take to end, in seconds.
    """

    __slots__ = (
        "_cancelled",
        "_counted",
        "_error",
        "_grace_period",
        "_hard_limit",
        "_soft",
        "_task",
        "_timers",
        "label",
    )

    def __init__(self, label: str = "", grace_period: float = 10) -> None:
        self.label = label
        self._grace_period = grace_period
        self._task: asyncio.Task[Any] | None = None
        self._error: BaseException | None = None
        self._soft = False
        self._cancelled = False
        self._counted = 0  # how many cancellations asked for here the task still counts
        self._hard_limit: float | None = None
        self._timers: list[asyncio.TimerHandle] = []

    @property
    def task(self) -> asyncio.Task[Any] | None:
        """The asyncio task whose coroutine is interrupted, while it runs."""
        return self._task

    def soft_timeout(self, error: SoftTimeLimitExceeded) -> None:
        """Raise a soft time limit in the coroutine; the second one, and one after `cancel`, is not delivered.

        Args:
            error: What to raise. The coroutine may catch it and go on.
        """
        if not self._cancelled and not self._soft:
            self._soft = True
            self._interrupt(_SoftTimeLimitError(*error.args))

    def cancel(self) -> None:
        """Cancel the coroutine, and close it if it still goes on after the grace period."""
        if self._cancelled:
            return
        self._cancelled = True
        self._interrupt(asyncio.CancelledError())
        if self._task is not None:
            self._timers.append(self._task.get_loop().call_later(self._grace_period, self._close))

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
            HandlerCancelledError: If it ended as cancelled without having been interrupted.
            HandlerExitError: If it raised what is no Exception, such as SystemExit.
        """
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        cancelled_before = task.cancelling() if task else 0
        if soft_limit is not None:
            self._timers.append(loop.call_later(soft_limit, self.soft_timeout, SoftTimeLimitExceeded(soft_limit)))
        if hard_limit is not None:
            self._timers.append(loop.call_later(hard_limit, self._time_out, hard_limit))
        try:
            value: _T = await self._drive(coroutine)
        except BaseException as error:
            if self._hard_limit is not None:
                raise TimeLimitExceeded(self._hard_limit) from (error if isinstance(error, Exception) else None)
            soft = _only_soft_limit(error)
            if soft is not None:
                raise SoftTimeLimitExceeded(*soft.args).with_traceback(soft.__traceback__) from soft.__cause__
            if isinstance(error, Exception):
                raise
            if not isinstance(error, asyncio.CancelledError):
                raise HandlerExitError(self.label, _shown(error)) from error
            if self._cancelled or (task and task.cancelling() > cancelled_before):
                raise
            raise HandlerCancelledError(self.label) from error
        finally:
            while self._counted:
                self._uncount()
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
                    # No name here may hold the exception: whether the body still has it is seen by its references.
                    waiting_for = self._throw(coroutine, error)
                else:
                    waiting_for = coroutine.send(None)
        except StopIteration as stop:
            value: _T = stop.value
            return value

    def _throw(self, coroutine: Coroutine[Any, Any, Any], error: BaseException) -> Any:
        """Raise in a coroutine what a cancellation of its task means, and return what it waits for next."""
        if self._error is None or not isinstance(error, asyncio.CancelledError):
            return coroutine.throw(error)
        if self._error is _CLOSE:
            return self._abandon(coroutine)
        if isinstance(self._error, _SoftTimeLimitError):
            # Python has no other sign that the body has caught it than that it is gone.
            weakref.finalize(self._error, self._uncount).atexit = False
        requested = [self._error]
        self._error = None
        return coroutine.throw(requested.pop())

    def _uncount(self) -> None:
        """Have the task count one less of the cancellations that were asked for here."""
        if self._counted and self._task is not None:
            self._counted -= 1
            self._task.uncancel()

    def _abandon(self, coroutine: Coroutine[Any, Any, Any]) -> NoReturn:
        try:
            coroutine.close()
        except RuntimeError:
            fields = fields_of_label("task-abandoned", self.label)
            logger.error("Task %s did not stop after cancellation: abandoning its coroutine", self.label, extra=fields)
        raise asyncio.CancelledError

    def _time_out(self, limit: float) -> None:
        if not self._cancelled:
            self._hard_limit = limit
            self.cancel()

    def _close(self) -> None:
        logger.error(
            "Task %s did not stop within %s s after cancellation: closing its coroutine",
            *(self.label, self._grace_period),
            extra=fields_of_label("task-not-cancelled", self.label),
        )
        self._interrupt(_CLOSE)

    def _interrupt(self, error: BaseException) -> None:
        self._error = error
        if self._task is not None:
            self._counted += 1
            self._task.cancel()


def _only_soft_limit(error: BaseException) -> _SoftTimeLimitError | None:
    """Return the soft limit that ends the body, also out of a group: asyncio's puts one in that strikes its block."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error if isinstance(error, _SoftTimeLimitError) else None
