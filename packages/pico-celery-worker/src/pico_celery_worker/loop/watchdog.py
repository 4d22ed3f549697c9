"""Notices when the event loop is held up, by what, and for how long."""

import _thread
import asyncio
import gc
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, NamedTuple

logger = logging.getLogger(__name__)

_CHECKS_PER_THRESHOLD: Final = 4
_ESCALATION_FACTOR: Final = 10
_DEEPEST: Final = 12


class UnpatchedThreading(NamedTuple):
    """What still concerns the operating system's own threads after gevent or eventlet has patched Python."""

    start_thread: Callable[[Callable[[], Any], tuple[()]], Any]
    """`_thread.start_new_thread`"""
    get_ident: Callable[[], int]
    """`_thread.get_ident`"""
    sleep: Callable[[float], None]
    """`time.sleep`"""
    new_lock: Callable[[], Any] = _thread.allocate_lock
    """`_thread.allocate_lock`"""
    close_hub: Callable[[], None] = lambda: None
    """Closes what a thread that has used sockets has of its own. Called by it at its end."""
    read: Callable[[int, int], bytes] = os.read
    """`os.read`"""


class LoopWatchdog:
    """Watches a loop from a native thread.

    The loop beats a few times in the span that is too long. A thread of the operating system's, which runs also while
    the loop does not, sees a beat missing and looks at what the loop's thread is doing. It does not log that itself:
    under gevent and eventlet, locks belong to the thread of the loop, which therefore logs as soon as it goes on.

    Args:
        loop: The loop to watch. Called on its thread.
        longest: How long the loop may be held up without a warning, in seconds.
        native: How to start the thread.
        left_at: Where the loop was left in the midst of a step, as greenlets can be.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        longest: float,
        native: UnpatchedThreading,
        left_at: Callable[[], FrameType | None] = lambda: None,
    ) -> None:
        self.last: float = 0
        """How late the last beat was, in seconds."""
        self.worst: float = 0
        """How late a beat was at most, in seconds."""
        self._loop = loop
        self._longest = longest
        self._interval = longest / _CHECKS_PER_THRESHOLD
        self._native = native
        self._left_at = left_at
        self._thread: int = 0
        self._due = 0.0
        self._culprit: str | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    def start(self) -> None:
        """Begin to watch. Called on the loop."""
        self._thread = self._native.get_ident()
        self._schedule()
        self._native.start_thread(self._watch, ())

    def stop(self) -> None:
        """End to watch. Called on the loop."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _schedule(self) -> None:
        self._due = time.monotonic() + self._interval
        self._timer = self._loop.call_later(self._interval, self._beat)

    def _beat(self) -> None:
        self.last = max(time.monotonic() - self._due, 0)
        self.worst = max(self.worst, self.last)
        culprit, self._culprit = self._culprit, None
        if culprit is not None:
            logger.warning("The event loop was held up for %.2f s by %s", self.last, culprit)
        self._schedule()

    def _watch(self) -> None:
        while not self._stopped:
            self._native.sleep(self._interval)
            late = time.monotonic() - self._due
            if late < self._longest or self._stopped:
                continue
            if self._culprit is None:
                self._culprit = self._describe()
            elif late > _ESCALATION_FACTOR * self._longest:
                # Perhaps it never goes on, so the logger's locks must not be waited for.
                os.write(2, f"The event loop has been held up for {late:.0f} s by {self._culprit}\n".encode())
                self._longest *= _ESCALATION_FACTOR

    def _describe(self) -> str:
        return held_up_by(self._loop, self._thread, self._left_at())


def held_up_by(loop: asyncio.AbstractEventLoop, thread: int, left_at: FrameType | None) -> str:
    """Say what a loop is at. Called in any thread.

    Args:
        loop: The loop.
        thread: The number of its thread.
        left_at: Where the loop was left in the midst of a step, if it was: what runs instead on its thread was begun
            there, such as a thread that gevent has made a greenlet.
    """
    task = asyncio.current_task(loop)
    what = f"task {task.get_name()}" if task is not None else "something that is no asyncio task"
    told = f"{what}:\n{_stack(_frame_of(thread))}".rstrip()
    if task is not None and left_at is not None:
        told += f"\nwhile the task waits for it here:\n{_stack(left_at)}".rstrip()
    return told


def _frame_of(thread: int) -> FrameType | None:
    """Return what a thread is at."""
    # Python 3.11 looks at the frames with a lock of the interpreter's that the garbage collector wants as well: if that
    # begins meanwhile, it waits for ever, and the whole process with it (CPython's issue 106883; seen with 3.11.7).
    collects = gc.isenabled()
    gc.disable()
    try:
        return sys._current_frames().get(thread)  # noqa: SLF001
    finally:
        if collects:
            gc.enable()


def _stack(frame: FrameType | None) -> str:
    return "".join(traceback.format_stack(frame)[-_DEEPEST:]) if frame is not None else ""
