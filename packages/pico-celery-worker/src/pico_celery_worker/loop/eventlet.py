"""The event loop in a green thread, for the eventlet pool.

eventlet is optional, and pico-ioc imports every module of a package that it scans, so it is imported where it is used.
"""

import asyncio
import selectors
from collections.abc import Callable
from contextvars import copy_context
from types import FrameType
from typing import Any, TypeVar, cast

from pico_celery_worker.loop import greenlet_state
from pico_celery_worker.loop.base import LoopRunner, Waiter
from pico_celery_worker.loop.watchdog import UnpatchedThreading

_T = TypeVar("_T")


class _LoopSelector(selectors.SelectSelector):
    """Parks the loop's green thread in eventlet's own `select`."""

    def select(self, timeout: float | None = None) -> list[Any]:
        import eventlet

        if timeout is not None and timeout <= 0:
            eventlet.sleep(0)
        return super().select(timeout)


class _Waiter(Waiter[Any]):
    def __init__(self) -> None:
        from eventlet.event import Event

        self._event = Event()

    def wait(self) -> None:
        self._event.wait()

    def wake(self) -> None:
        self._event.send(None)


class EventletRunner(LoopRunner):
    """Runs coroutines on a loop in a green thread; the callers are green threads."""

    def __init__(self) -> None:
        import eventlet

        greenlet_state.keep_apart()
        super().__init__(asyncio.SelectorEventLoop(_LoopSelector()))
        self._thread_number = self.native().get_ident()
        self._thread = eventlet.spawn(self._serve)

    @staticmethod
    def native() -> UnpatchedThreading:
        """What eventlet has patched."""
        from eventlet import patcher

        thread: Any = patcher.original("_thread")
        clock: Any = patcher.original("time")
        system: Any = patcher.original("os")
        return UnpatchedThreading(
            thread.start_new_thread, thread.get_ident, clock.sleep, thread.allocate_lock, read=system.read
        )

    @staticmethod
    async def run_blocking(function: Callable[[], _T]) -> _T:
        """Run a function in a green thread of its own."""
        import eventlet

        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        context = copy_context()

        def call() -> _T:
            try:
                return context.run(function)
            finally:
                loop.call_soon_threadsafe(done.set)

        thread = eventlet.spawn(call)
        try:
            await done.wait()
        except asyncio.CancelledError:
            thread.kill()
            raise
        value: Any = thread.wait()
        return cast("_T", value)

    def keep_calling(self, function: Callable[[], None], pause: float) -> None:
        """Call it in a green thread, which goes on while a coroutine waits in a patched function."""
        import eventlet

        sleep: Any = eventlet.sleep

        def call() -> None:
            while not self.loop.is_closed():
                function()
                sleep(pause)

        eventlet.spawn(call)

    def _thread_id(self) -> int:
        return self._thread_number

    def _left_at(self) -> FrameType | None:
        frame: FrameType | None = self._thread.gr_frame
        return frame

    def _join(self) -> None:
        self._thread.wait()

    def _is_here(self) -> bool:
        import eventlet

        return eventlet.getcurrent() is self._thread

    def _waiter(self) -> _Waiter:
        return _Waiter()
