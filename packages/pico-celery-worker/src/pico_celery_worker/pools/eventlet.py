"""The eventlet pool, with ends that can be relied on: what `gevent.py` does, for eventlet.

tests/integration/test_shutdown.py holds it to Celery's own.
"""

from typing import Any

from celery.concurrency import eventlet as celery_eventlet

from pico_celery_worker.pools.greenlets import GreenletPoolMixin


class TaskPool(GreenletPoolMixin, celery_eventlet.TaskPool):  # type: ignore[misc]  # Celery has no types
    """Celery's eventlet pool, in which a killed task is a terminated one."""

    def terminate_and_wait(self, pid: int, timeout: float) -> None:
        """Kill one task, and wait for it to end.

        Args:
            pid: What the pool calls the task's green thread.
            timeout: How long to wait, in seconds.
        """
        thread = self._other(pid)
        if thread is not None:
            thread.kill()
            self._wait([thread], timeout)

    def on_terminate(self) -> None:
        """Kill what still runs, and wait for it to end."""
        threads = list((self._pool_map or {}).values())
        for thread in threads:
            thread.kill()
        self._wait(threads, self.terminate_timeout)

    @staticmethod
    def _wait(threads: list[Any], seconds: float) -> None:
        from eventlet import Timeout

        with Timeout(seconds, False):
            for thread in threads:
                thread.wait()
