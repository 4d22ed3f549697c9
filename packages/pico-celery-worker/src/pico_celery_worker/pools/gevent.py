"""The gevent pool, with ends that can be relied on.

Celery 5.7's own takes a killed greenlet for a task that has succeeded, so its message is acknowledged and lost, and its
`terminate` stops nothing. Here a killed task counts as terminated, as in a prefork worker: its message goes back to the
broker unless it was revoked. tests/unit/worker/pools/test_gevent.py holds this to Celery's request.
"""

from celery.concurrency import gevent as celery_gevent

from pico_celery_worker.pools.greenlets import GreenletPoolMixin
from pico_celery_worker.pools.timers import Timer


class TaskPool(GreenletPoolMixin, celery_gevent.TaskPool):  # type: ignore[misc]  # Celery has no types
    """Celery's gevent pool, in which a killed task is a terminated one."""

    Timer = Timer

    def on_terminate(self) -> None:
        """Kill what still runs, and wait for it to end."""
        pool = self._pool
        if pool is not None:
            pool.kill(block=True, timeout=self.terminate_timeout)

    def terminate_and_wait(self, pid: int, timeout: float) -> None:
        """Kill one task, and wait for it to end.

        Args:
            pid: What the pool calls the task's greenlet.
            timeout: How long to wait, in seconds.
        """
        greenlet = self._other(pid)
        if greenlet is not None:
            greenlet.kill(block=True, timeout=timeout)
