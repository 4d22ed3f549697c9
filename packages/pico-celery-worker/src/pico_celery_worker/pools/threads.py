"""The threads pool, whose tasks can be ended, and whose size can be changed.

Celery 5.7's own neither grows nor shrinks, as `--autoscale` and remote control would have it.
tests/unit/worker/pools/test_threads.py holds it to Celery's own.
"""

import functools
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

from celery.concurrency import thread as celery_thread
from celery.concurrency.base import apply_target

from pico_celery_core.timeouts import Timeouts
from pico_celery_worker.pools import is_shutting_down
from pico_celery_worker.pools.job import CancellableJob, Jobs


class TaskPool(celery_thread.TaskPool):  # type: ignore[misc]  # Celery has no types
    """Celery's threads pool, in which the coroutine of an async task can be cancelled."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Celery's makes an executor of a fixed size, which may not be 0, where `--autoscale=20,0` begins.
        super(celery_thread.TaskPool, self).__init__(*args, **kwargs)
        # It gets as many calls at a time as there may be, and starts a thread only if none is idle.
        self.executor = ThreadPoolExecutor(max_workers=sys.maxsize)
        self._jobs = Jobs()
        self._waiting: deque[Callable[[], Any]] = deque()
        self._running = 0
        self._lock = threading.RLock()  # a task may end while the next one is begun

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
    ) -> None:
        """Run a task in a thread, unless the worker stops: then its message is left to other workers."""
        if is_shutting_down():
            return
        job = CancellableJob(self._jobs, target, callback, options["error_callback"], accept_callback)
        self._waiting.append(functools.partial(apply_target, job.run, args, kwargs, job.report, job.accept, job.number))
        self._begin()

    def grow(self, n: int = 1) -> None:
        """Run more tasks at a time.

        Args:
            n: How many more.
        """
        self.limit += n
        self._begin()

    def shrink(self, n: int = 1) -> None:
        """Run fewer tasks at a time, as soon as so many have ended.

        Args:
            n: How many fewer.
        """
        self.limit -= n

    def on_stop(self) -> None:
        """Wait for what runs. What only waits for a thread does not begin."""
        self._waiting.clear()
        super().on_stop()

    def _begin(self) -> None:
        with self._lock:
            while self._waiting and self._running < self.limit:
                call = self._waiting.popleft()
                self._running += 1
                self.executor.submit(call).add_done_callback(self._go_on)

    def _go_on(self, _: Any) -> None:
        with self._lock:
            self._running -= 1
            self._begin()

    def terminate_job(self, pid: int, signal: Any = None) -> None:  # noqa: ARG002
        """Cancel a task, without waiting for its end."""
        self._jobs.cancel(pid)

    def terminate_and_wait(self, pid: int, timeout: float) -> None:
        """Cancel a task, and wait for its end.

        Args:
            pid: What the pool calls the task.
            timeout: How long to wait, in seconds.
        """
        self._jobs.cancel(pid, timeout)

    def on_terminate(self) -> None:
        """Cancel what still runs, and wait for it to end. What only waits for a thread does not begin."""
        self._waiting.clear()
        self.executor.shutdown(wait=False, cancel_futures=True)
        self._jobs.cancel_all(self.terminate_timeout)
