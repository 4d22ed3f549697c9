"""Room to run: where a process can open no more files, it takes fewer messages until it can.

At its start a worker limits its tasks so that each may open one file (`descriptors.py`). Tasks that open more may use
up all there are; whatever began then would fail. So a message waits while there is no room and others run, and fewer of
them run from then on.
"""

import logging
import math
import time
from collections.abc import Callable
from typing import Final

from celery.worker import state

from pico_celery_worker.consumer.descriptors import check_room
from pico_celery_worker.pools import is_shutting_down

logger = logging.getLogger(__name__)

# A task's, and one of the worker's own for it.
_NEEDED: Final = 2

# How long it is taken to be so when there was room, in seconds.
_FRESH: Final = 0.005

# How often to look while there is none, and how long fewer tasks are given to make some before even fewer run.
_PAUSE: Final = 0.05
_SETTLING: Final = 1.0

# After so long without shortage a quarter more tasks may run, in seconds.
_GROWTH: Final = 2.0


class Room:
    """Has messages wait while the process can open no more files.

    Args:
        has_room: Whether it can.
        running: How many tasks run.
        clock: Tells the time, in seconds.
        sleep: Waits for some seconds.
    """

    def __init__(
        self,
        has_room: Callable[[], bool] | None = None,
        running: Callable[[], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self._has_room = has_room or _has_room
        self._running = running or _active_tasks
        self._clock = clock
        self._sleep = sleep or time.sleep  # as it is now, patched by gevent
        self._fresh_until = 0.0
        # How many tasks may run, how many did when that was lowered first, when it was changed, and lowered last.
        self._most = math.inf
        self._before = 0
        self._changed_at = 0.0
        self._lowered_at = 0.0

    def wait(self) -> None:
        """Wait until one more task may begin; not while none runs, or the worker stops."""
        now = self._clock()
        if self._most == math.inf:
            if now < self._fresh_until:
                return
            if self._has_room():
                self._fresh_until = now + _FRESH
                return
        while True:
            self._sleep(0)  # what was handed over before begins
            running = self._running()
            is_short = not self._has_room()
            self._adapt(running, is_short)
            if not running or is_shutting_down() or not (is_short or running >= self._most):
                return
            self._sleep(_PAUSE)

    def _adapt(self, running: int, is_short: bool) -> None:
        now = self._clock()
        if is_short and running:
            if self._most == math.inf:
                self._before = running
                logger.warning(
                    "This process can open no more files, with %d tasks running: it takes fewer until it can. Raise "
                    "the limit (ulimit -n), or lower the concurrency (-c)",
                    running,
                )
            elif now < self._lowered_at + _SETTLING:
                return
            self._most, self._changed_at, self._lowered_at = max(1, min(self._most, running) - 1), now, now
        elif not is_short and self._most < math.inf and now - self._changed_at >= _GROWTH:
            self._most, self._changed_at = self._most + max(1, self._most // 4), now
            if self._most > self._before:
                self._most = math.inf
                logger.info("This process can open files again: it takes as many tasks as before")


def _has_room() -> bool:
    try:
        check_room(_NEEDED)
    except OSError:
        return False
    return True


def _active_tasks() -> int:
    return len(state.active_requests)
