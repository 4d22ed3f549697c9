"""Jobs that can be ended: for pools that have no means of their own to end one, threads and solo.

Celery 5.7 asks them for it all the same when it shuts down cold. Their refusal is an error in the signal's handler,
which leaves the worker hanging, or is taken for the task's own, so that its message is acknowledged and lost.
"""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from pico_celery_worker.loop.cancellation import set_canceller
from pico_celery_worker.pools.outcomes import contained, terminated

_numbers: Final = itertools.count(1)


class Job:
    """One message that a pool executes."""

    def __init__(self) -> None:
        self.number = next(_numbers)
        """What the pool calls it, where other pools have the number of a process."""
        self._began = False
        self._ended = threading.Event()
        self._is_cancelled = False
        self._interrupt: Callable[[], None] | None = None

    def cancel(self) -> None:
        """Cancel its coroutine, as soon as there is one."""
        # No lock: the handler of a signal may strike in the midst of `by`. To interrupt twice does no harm.
        self._is_cancelled = True
        if self._interrupt is not None:
            self._interrupt()

    def wait(self, seconds: float) -> None:
        """Wait for its end, if it has begun.

        Args:
            seconds: How long at most.
        """
        if self._began:
            self._ended.wait(seconds)

    def by(self, interrupt: Callable[[], None]) -> None:
        """Say how its coroutine is cancelled. What a coroutine itself runs and waits for is cancelled with it.

        Args:
            interrupt: Cancels it; called in any thread.
        """
        if self._interrupt is None:
            self._interrupt = interrupt
            if self._is_cancelled:
                interrupt()

    def run(self, target: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run a tracer, and tell a cancelled task as a terminated one."""
        self._began = True
        token = set_canceller.set(self.by)
        try:
            return contained(target)(*args, **kwargs)
        except asyncio.CancelledError as cancelled:
            if not self._is_cancelled:
                raise
            return terminated(cancelled)
        finally:
            set_canceller.reset(token)
            self._ended.set()


class Jobs:
    """The jobs that a pool has, by number."""

    def __init__(self) -> None:
        self._jobs: dict[int, Job] = {}

    def add(self, target: Callable[..., Any]) -> tuple[int, Callable[..., Any]]:
        """Make a job of a tracer: return its number, and what runs it."""
        job = Job()
        self._jobs[job.number] = job

        def run(*args: Any, **kwargs: Any) -> Any:
            try:
                return job.run(target, args, kwargs)
            finally:
                del self._jobs[job.number]

        return job.number, run

    def cancel(self, number: int) -> None:
        """Cancel a job, if it still runs."""
        job = self._jobs.get(number)
        if job is not None:
            job.cancel()

    def cancel_and_wait(self, number: int, seconds: float) -> None:
        """Cancel a job, and wait for its end.

        Args:
            number: The job's.
            seconds: How long to wait.
        """
        job = self._jobs.get(number)
        if job is not None:
            job.cancel()
            job.wait(seconds)

    def cancel_all(self, seconds: float) -> None:
        """Cancel all jobs, and wait for their end.

        Args:
            seconds: How long to wait.
        """
        deadline = time.monotonic() + seconds
        jobs = tuple(self._jobs.values())
        for job in jobs:
            job.cancel()
        for job in jobs:
            job.wait(max(deadline - time.monotonic(), 0))
