"""The threads pool, whose tasks can be ended.

tests/unit/worker/pools/test_threads.py holds it to Celery's own.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

from celery.concurrency import thread as celery_thread
from celery.concurrency.base import apply_target

from pico_celery_worker.pools import is_stopping, termination_timeout, unless_stopping
from pico_celery_worker.pools.job import Jobs
from pico_celery_worker.pools.outcomes import told


class TaskPool(celery_thread.TaskPool):  # type: ignore[misc]  # Celery has no types
    """Celery's threads pool, in which the coroutine of an async task can be cancelled."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._jobs = Jobs()

    @cached_property
    def terminate_timeout(self) -> float:
        """How long terminated tasks may take to end, in seconds."""
        return termination_timeout(self.app)

    def on_apply(
        self,
        target: Callable[..., Any],
        args: Any = None,
        kwargs: Any = None,
        callback: Any = None,
        accept_callback: Any = None,
        **options: Any,
    ) -> Any:
        """Run a task in a thread, unless tasks are no longer to run: then its message is left to others."""
        if is_stopping():
            return None
        accept_callback = unless_stopping(accept_callback)
        number, run = self._jobs.add(target)
        tell = told(callback, options["error_callback"])
        future = self.executor.submit(apply_target, run, args, kwargs, tell, accept_callback, number)
        return celery_thread.ApplyResult(future)

    def terminate_job(self, pid: int, signal: Any = None) -> None:  # noqa: ARG002
        """Cancel a task, without waiting for its end."""
        self._jobs.cancel(pid)

    def terminate_and_wait(self, pid: int, timeout: float) -> None:
        """Cancel a task, and wait for its end.

        Args:
            pid: What the pool calls the task.
            timeout: How long to wait, in seconds.
        """
        self._jobs.cancel_and_wait(pid, timeout)

    def on_terminate(self) -> None:
        """Cancel what still runs, and wait for it to end. What only waits for a thread does not begin."""
        self.executor.shutdown(wait=False, cancel_futures=True)
        self._jobs.cancel_all(self.terminate_timeout)
