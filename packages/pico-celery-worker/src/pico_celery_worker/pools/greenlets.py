"""What the gevent and eventlet pools have in common: a killed task is reported as terminated."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

from greenlet import getcurrent

from pico_celery_core.timeouts import Timeouts
from pico_celery_worker.pools import is_shutting_down
from pico_celery_worker.pools.job import TaskJob


class GreenletPoolMixin:
    """Mixin for Celery's pools of greenlets."""

    app: Any
    _pool_map: Any

    @cached_property
    def terminate_timeout(self) -> float:
        """How long terminated tasks may take to end, in seconds."""
        return Timeouts.of(self.app).termination

    def on_apply(
        self,
        target: Callable[..., Any],
        args: Any = None,
        kwargs: Any = None,
        callback: Any = None,
        accept_callback: Any = None,
        **options: Any,
    ) -> Any:
        """Spawn a greenlet that runs a task, unless the worker stops: then its message is left to other workers."""
        if is_shutting_down():
            return None
        job = TaskJob(target, callback, options["error_callback"], accept_callback)
        pool: Any = super()
        return pool.on_apply(job.run, args, kwargs, job.report, job.accept, **options)

    def terminate_job(self, pid: int, signal: Any = None) -> None:
        """Kill one task.

        Args:
            pid: What the pool calls the task's greenlet.
            signal: Ignored.
        """
        greenlet = (self._pool_map or {}).get(pid)
        if greenlet is not None and greenlet is getcurrent():
            # Its request was revoked before it was accepted, and has still to report that. See `TaskJob.run`.
            greenlet.is_revoked = True
        else:
            pool: Any = super()
            pool.terminate_job(pid, signal)

    def _other(self, pid: int) -> Any:
        """Return a task's greenlet, unless it has ended or is the one that asks."""
        greenlet = (self._pool_map or {}).get(pid)
        return None if greenlet is getcurrent() else greenlet
