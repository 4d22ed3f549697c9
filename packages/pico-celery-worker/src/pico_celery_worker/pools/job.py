"""One message in a pool: accepted, run, cancelled and reported, whatever becomes of it.

A pool of processes reports every failure to a request. Celery 5.7's other pools know only what the tracer returns: an
exception that leaves the tracer ends the greenlet or thread, and what is no Exception is reported in a way that the
request does not understand. Either way the message is neither acknowledged nor rejected.

A task is terminated in this way: the request asks the pool, the pool kills the task's greenlet or cancels its
coroutine, and the job reports `Terminated`, as Celery does of a task whose process was killed. The request then decides
whether the message is acknowledged (the task was revoked) or given back (the worker stops).
"""

import asyncio
import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from billiard.exceptions import Terminated
from celery.exceptions import Reject
from greenlet import GreenletExit, getcurrent

from pico_celery_worker.loop.cancellation import has_returned, set_canceller
from pico_celery_worker.pools import is_shutting_down

logger = logging.getLogger(__name__)

_numbers: Final = itertools.count(1)


class TerminatedLateError(Terminated):  # type: ignore[misc]  # billiard has no types
    """A task was terminated when its handler had returned."""


class TaskJob:
    """One message that a pool executes.

    Args:
        target: Celery's tracer, which runs the task.
        callback: Takes what the tracer returns.
        error_callback: Takes the exception that has ended the tracer.
        accept_callback: Is told that the task begins.
    """

    __slots__ = ("_accept", "_callback", "_error_callback", "_target")

    def __init__(
        self,
        target: Callable[..., Any],
        callback: Callable[[Any], Any],
        error_callback: Callable[[ExceptionInfo], Any],
        accept_callback: Callable[[int, float], Any] | None = None,
    ) -> None:
        self._target = target
        self._callback = callback
        self._error_callback = error_callback
        self._accept = accept_callback

    def accept(self, pid: int, time_accepted: float) -> None:
        """Begin a task that may have waited for a free slot.

        Args:
            pid: What the pool calls the task.
            time_accepted: When, by the monotonic clock.

        Raises:
            GreenletExit: If the worker stops: its message goes back to the broker.
        """
        if is_shutting_down():
            raise GreenletExit
        if self._accept is not None:
            self._accept(pid, time_accepted)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task.

        Returns:
            What the tracer returns; of a task that was terminated, what it returns of a failure; an ExceptionInfo of
            the exception that has ended the tracer itself.
        """
        try:
            if getattr(getcurrent(), "is_revoked", False):
                raise GreenletExit  # noqa: TRY301  # before the task has begun
            return self._target(*args, **kwargs)
        except GreenletExit as killed:
            return terminated(killed, TerminatedLateError if has_returned.get() else Terminated)
        except Reject:
            return ExceptionInfo()
        except Exception:
            logger.exception("A task failed outside of its handler")
            return ExceptionInfo()

    def report(self, outcome: Any) -> None:
        """Report to the request what `run` has returned."""
        try:
            if isinstance(outcome, ExceptionInfo):
                self._error_callback(_without_memory_error(outcome))
                return
            failed, value, runtime = outcome
            self._callback((failed, _without_memory_error(value) if failed else value, runtime))
        except Exception:
            logger.exception("Reporting a task's outcome failed")


class CancellableJob(TaskJob):
    """A job whose coroutine can be cancelled, in pools that have no means of their own to end a task: threads and solo.

    Celery 5.7 asks them for it all the same when it shuts down cold. Their refusal is an error in the signal's handler,
    which leaves the worker hanging, or is taken for the task's own, so that its message is acknowledged and lost.
    """

    __slots__ = ("_began", "_cancel", "_ended", "_is_cancelled", "_jobs", "number")

    def __init__(self, jobs: dict[int, "CancellableJob"], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.number = next(_numbers)
        """What the pool calls it, where other pools have the number of a process."""
        self._began = False
        self._ended = threading.Event()
        self._is_cancelled = False
        self._cancel: Callable[[], None] | None = None
        self._jobs = jobs
        jobs[self.number] = self

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task."""
        self._began = True
        token = set_canceller.set(self.set_canceller)
        try:
            return super().run(*args, **kwargs)
        except asyncio.CancelledError as cancelled:
            if not self._is_cancelled:
                raise
            return terminated(cancelled)
        finally:
            set_canceller.reset(token)
            del self._jobs[self.number]
            self._ended.set()

    def set_canceller(self, cancel: Callable[[], None]) -> None:
        """Take what cancels the task's coroutine. What a coroutine itself runs and waits for is cancelled with it.

        Args:
            cancel: Called in any thread.
        """
        if self._cancel is None:
            self._cancel = cancel
            if self._is_cancelled:
                cancel()

    def cancel(self) -> None:
        """Cancel the coroutine, as soon as there is one."""
        # No lock: the handler of a signal may strike in the midst of `set_canceller`. To cancel twice does no harm.
        self._is_cancelled = True
        if self._cancel is not None:
            self._cancel()

    def wait(self, seconds: float) -> None:
        """Wait for the job's end, if it has begun.

        Args:
            seconds: How long at most.
        """
        if self._began:
            self._ended.wait(seconds)


class Jobs(dict[int, CancellableJob]):
    """The jobs that a pool of threads has, by number."""

    def cancel(self, number: int, seconds: float = 0) -> None:
        """Cancel a job, if it still runs, and wait for its end.

        Args:
            number: The job's.
            seconds: How long to wait.
        """
        job = self.get(number)
        if job is not None:
            job.cancel()
            job.wait(seconds)

    def cancel_all(self, seconds: float) -> None:
        """Cancel all jobs, and wait for their end.

        Args:
            seconds: How long to wait.
        """
        deadline = time.monotonic() + seconds
        jobs = tuple(self.values())
        for job in jobs:
            job.cancel()
        for job in jobs:
            job.wait(max(deadline - time.monotonic(), 0))


def terminated(error: BaseException, kind: Any = Terminated) -> tuple[bool, Any, Any]:
    """Return what a tracer would return of a task whose process was terminated.

    Args:
        error: How it ended.
        kind: The class of the exception to report.
    """
    return True, ExceptionInfo((kind, kind(repr(error)), error.__traceback__)), None


def raised(info: Any) -> BaseException:
    """Return the exception that was raised, which billiard puts into another one."""
    exception: Any = info.exception
    original: BaseException = exception.exc if isinstance(exception, ExceptionWithTraceback) else exception
    return original


def _without_memory_error(info: Any) -> Any:
    # Celery would raise a MemoryError again, for the pool's process, which here is everybody's.
    if isinstance(raised(info), MemoryError):
        info.exception = RuntimeError(repr(raised(info)))
    return info
