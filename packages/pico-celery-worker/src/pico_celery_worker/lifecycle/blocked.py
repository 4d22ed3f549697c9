"""The end of a worker that gets a signal to stop while a task holds up its thread for ever.

Python runs a signal's handler on the main thread, between two of its steps. Under gevent and eventlet that is the
thread of all tasks: a task that blocks it in a library's own code, as `grpc.aio` does there, keeps the worker from ever
hearing of the signal. A native thread does.
"""

import os
import signal
import time
from collections.abc import Callable
from typing import Final

from celery.platforms import EX_FAILURE

from pico_celery_worker.lifecycle.os_signals import STOP_SIGNALS
from pico_celery_worker.loop.watchdog import UnpatchedThreading

_LOOK: Final = 1.0


class BlockedExit:
    """Ends the process, as if it were killed, when the thread of its tasks is held up for too long after a stop signal.

    Args:
        native: How to start the thread that looks.
        longest: How long it may be held up after the signal, in seconds.
        held_up_by: Says what holds it up.
    """

    def __init__(self, native: UnpatchedThreading, longest: float, held_up_by: Callable[[], str]) -> None:
        self._native = native
        self._longest = longest
        self._held_up_by = held_up_by
        self._alive = time.monotonic()
        self._stopped = False
        self._signals: tuple[int, int] | None = None

    def beat(self) -> None:
        """Say that the thread of the tasks goes on. Called on it, at least every second."""
        self._alive = time.monotonic()

    def start(self) -> None:
        """Begin to look, unless somebody else already hears of the process's signals. Called on the main thread."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        self._signals = reader, writer
        try:
            before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        except ValueError:  # this is not the main thread, and so somebody else's process
            self.stop()
            return
        if before != -1:
            signal.set_wakeup_fd(before)
            self.stop()
            return
        self._native.start_thread(self._watch, ())

    def stop(self) -> None:
        """End to look. Called on the main thread."""
        self._stopped = True
        signals, self._signals = self._signals, None
        if signals is None:
            return
        try:
            hears = signal.set_wakeup_fd(-1)
            if hears not in (-1, signals[1]):
                signal.set_wakeup_fd(hears)
        except ValueError:
            pass
        for end in signals:
            os.close(end)

    def _watch(self) -> None:
        asked: float | None = None
        while not self._stopped:
            self._native.sleep(_LOOK)
            if asked is None and self._is_asked():
                asked = time.monotonic()
            if asked is None or self._stopped:
                continue
            late = time.monotonic() - max(asked, self._alive)
            if late > self._longest:
                # The task that holds up the thread may hold the logger's locks as well.
                text = (
                    f"The worker is asked to stop, but for {late:.0f} s the thread of its tasks has been held up by "
                    f"{self._held_up_by()}\n"
                    "It ends now as if it were killed. See pico_blocked_timeout.\n"
                )
                os.write(2, text.encode(errors="replace"))
                os._exit(EX_FAILURE)

    def _is_asked(self) -> bool:
        signals = self._signals
        try:
            came = self._native.read(signals[0], 4096) if signals is not None else b""
        except OSError:  # there was none, or the worker ends
            return False
        return any(number in STOP_SIGNALS for number in came)
