"""The event loop in a greenlet, for the gevent pool.

One greenlet of the worker's own thread runs one asyncio loop; Celery's greenlets hand it coroutines and wait to be
switched to. No thread takes part, so nothing has to be woken through a pipe.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from types import FrameType
from typing import Any, Final, TypeVar

import gevent
from gevent import hub, monkey
from gevent.selectors import GeventSelector

from pico_celery_worker.loop import greenlet_state
from pico_celery_worker.loop.base import LoopRunner, Waiter
from pico_celery_worker.loop.cancellation import CancelScope
from pico_celery_worker.loop.watchdog import UnpatchedThreading

_T = TypeVar("_T")

# A busy loop looks after other greenlets and sockets at least this often, in seconds.
_LONGEST_WITHOUT_HUB: Final = 0.001


class _LoopSelector(GeventSelector):  # type: ignore[misc]  # gevent has no types here
    """Parks the loop's greenlet while there is nothing to do."""

    def __init__(self) -> None:
        super().__init__()
        self._left_hub = time.monotonic()

    def wake(self) -> None:
        # `_ready` is private in gevent 26.9: its public alternative is the loop's self-pipe, two system calls a task.
        # tests/unit/worker/loop/test_gevent.py holds it to it.
        self._ready.set()  # pyright: ignore[reportAttributeAccessIssue]

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is not None and timeout <= 0 and time.monotonic() - self._left_hub < _LONGEST_WITHOUT_HUB:
            return []
        try:
            ready: list[Any] = super().select(timeout)
            return ready
        finally:
            self._left_hub = time.monotonic()


class _Waiter(hub.Waiter, Waiter[Any]):  # type: ignore[misc]
    """gevent's own waiter, woken through the hub, as it demands."""

    wait: Any = hub.Waiter.get

    def wake(self) -> None:
        self.hub.loop.run_callback(self.switch, None)  # pyright: ignore[reportAttributeAccessIssue]


class GeventRunner(LoopRunner):
    """Runs coroutines on a loop in a greenlet; the callers are greenlets."""

    def __init__(self) -> None:
        greenlet_state.keep_apart()
        self._hub = hub.get_hub()
        self._selector = _LoopSelector()
        super().__init__(asyncio.SelectorEventLoop(self._selector))
        self._thread = self.native().get_ident()
        self._greenlet = gevent.spawn(self._serve)

    @staticmethod
    def native() -> UnpatchedThreading:
        """What gevent has patched."""
        return UnpatchedThreading(
            monkey.get_original("_thread", "start_new_thread"),
            monkey.get_original("_thread", "get_ident"),
            monkey.get_original("time", "sleep"),
            monkey.get_original("_thread", "allocate_lock"),
            lambda: hub.get_hub().destroy(destroy_loop=True),
        )

    @staticmethod
    async def run_blocking(function: Callable[[], _T]) -> _T:
        """Run a function in a greenlet of its own."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[_T] = loop.create_future()
        context = copy_context()

        def settle(value: Any, error: BaseException | None) -> None:
            if done.cancelled():
                return
            if error is None:
                done.set_result(value)
            else:
                done.set_exception(error)

        def call() -> None:
            try:
                value = context.run(function)
            except BaseException as error:  # noqa: BLE001  # it would be lost, and the handler would wait for ever
                loop.call_soon_threadsafe(settle, None, error)
            else:
                loop.call_soon_threadsafe(settle, value, None)

        greenlet = gevent.spawn(call)
        try:
            return await done
        finally:
            greenlet.kill(block=False)

    def keep_calling(self, function: Callable[[], None], pause: float) -> None:
        """Call it in a greenlet, which goes on while a coroutine waits in a patched function."""

        def call() -> None:
            while not self.loop.is_closed():
                function()
                gevent.sleep(pause)

        gevent.spawn(call)

    def _thread_id(self) -> int:
        return self._thread

    def _left_at(self) -> FrameType | None:
        frame: FrameType | None = self._greenlet.gr_frame
        return frame

    def _join(self) -> None:
        self._greenlet.join()

    def _is_here(self) -> bool:
        return gevent.getcurrent() is self._greenlet

    def _unblock(self, cancel_scope: CancelScope) -> None:
        """Raise in a coroutine that waits in a patched function, such as `time.sleep`: the loop waits with it."""
        # One that does not block by now is cancelled where it awaits, and may block while it takes its leave.
        if asyncio.current_task(self.loop) is cancel_scope.task:
            self._hub.loop.run_callback(self._raise_where_blocked, cancel_scope)

    def _raise_where_blocked(self, cancel_scope: CancelScope) -> None:
        # On the hub, no greenlet runs. So whatever task the loop is at does not await: it blocks.
        task = asyncio.current_task(self.loop)
        if task is not None and task is cancel_scope.task:
            self._greenlet.throw(asyncio.CancelledError("blocked"))

    def _waiter(self) -> _Waiter:
        return _Waiter(self._hub)

    def _start(self, coroutine: Coroutine[Any, Any, None], name: str | None, context: Context) -> None:
        # In debug mode asyncio refuses both of these outside the loop's greenlet, which it takes for a thread.
        if self.loop.get_debug():
            super()._start(coroutine, name, context)
            return
        asyncio.Task(coroutine, loop=self.loop, name=name, context=context)
        self._selector.wake()

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        if self.loop.get_debug():
            super()._call(function, *args)
            return
        self.loop.call_soon(function, *args)
        self._selector.wake()
