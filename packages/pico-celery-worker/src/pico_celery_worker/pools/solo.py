"""The solo pool, whose task can be ended.

tests/unit/worker/pools/test_threads.py holds it to Celery's own.
"""

from collections.abc import Callable
from typing import Any

from celery.concurrency import solo as celery_solo
from celery.concurrency.base import apply_target

from pico_celery_worker.pools import in_cold_shutdown
from pico_celery_worker.pools.job import CancellableJob, Jobs


class TaskPool(celery_solo.TaskPool):  # type: ignore[misc]  # Celery has no types
    """Celery's solo pool, in which the coroutine of an async task can be cancelled by a signal."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._jobs = Jobs()
        self.on_apply = self._run_here

    def _run_here(
        self,
        target: Callable[..., Any],
        args: Any = None,
        kwargs: Any = None,
        callback: Any = None,
        accept_callback: Any = None,
        **options: Any,
    ) -> None:
        if not in_cold_shutdown():
            job = CancellableJob(self._jobs, target, callback, options["error_callback"], accept_callback)
            apply_target(job.run, args, kwargs, job.report, accept_callback, job.number)

    def terminate_job(self, pid: int, signal: Any = None) -> None:  # noqa: ARG002
        """Cancel the task. It ends when the handler of the signal, which asks for it, lets it."""
        self._jobs.cancel(pid)
