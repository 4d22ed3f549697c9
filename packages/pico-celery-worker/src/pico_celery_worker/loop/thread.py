"""The event loop in a thread of its own, for the pools that use no greenlets, and for eager calls."""

import _thread
import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from pico_celery_worker.loop.base import LoopRunner, Waiter
from pico_celery_worker.loop.watchdog import UnpatchedThreading

_T = TypeVar("_T")


class _Waiter(Waiter[Any]):
    def __init__(self) -> None:
        self._event = threading.Event()

    def wait(self) -> None:
        self._event.wait()

    def wake(self) -> None:
        self._event.set()


class ThreadRunner(LoopRunner):
    """Runs coroutines on a loop in a daemon thread; the callers are other threads."""

    def __init__(self) -> None:
        super().__init__(asyncio.new_event_loop())
        self._thread = threading.Thread(target=self._serve, name="pico-celery-loop", daemon=True)
        self._thread.start()

    @staticmethod
    def native() -> UnpatchedThreading:
        """Nothing is patched."""
        return UnpatchedThreading(_thread.start_new_thread, _thread.get_ident, time.sleep)

    @staticmethod
    async def run_blocking(function: Callable[[], _T]) -> _T:
        """Run a function in a thread of the loop's pool."""
        return await asyncio.to_thread(function)

    def keep_calling(self, function: Callable[[], None], pause: float) -> None:
        """Call it on the loop."""

        def call() -> None:
            function()
            self.loop.call_later(pause, call)

        self._call(call)

    def _thread_id(self) -> int:
        return self._thread.ident or 0

    def _join(self) -> None:
        self._thread.join()

    def _is_here(self) -> bool:
        return threading.current_thread() is self._thread

    def _waiter(self) -> _Waiter:
        return _Waiter()
