"""What every runner does alike: hand a coroutine to the loop, wait, and pass on what interrupts the wait."""

import asyncio
import functools
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from types import FrameType
from typing import Any, Final, Generic, TypeVar

from celery.exceptions import SoftTimeLimitExceeded

from pico_celery_worker.loop import child_tasks, current_task
from pico_celery_worker.loop.cancellation import CancelScope, has_returned, set_canceller
from pico_celery_worker.loop.watchdog import LoopWatchdog, UnpatchedThreading, held_up_by

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

# How long what is left on a loop may take to end when the loop is closed, in seconds.
CLOSE_TIMEOUT: Final = 5.0


class Waiter(Generic[_T]):
    """Lets one caller wait for a coroutine's outcome, as its pool waits."""

    _returned: _T
    _raised: BaseException | None = None

    has_returned = False
    """Whether the coroutine has returned."""

    def wait(self) -> None:
        """Wait until `wake` is called, before or after."""
        raise NotImplementedError

    def wake(self) -> None:
        """Let `wait` return. Called on the loop."""
        raise NotImplementedError

    async def await_for(self, coroutine: Coroutine[Any, Any, _T]) -> None:
        """Await a coroutine, keep its outcome, and wake the caller."""
        try:
            self._returned = await coroutine
            self.has_returned = True
        except BaseException as error:  # noqa: BLE001  # SystemExit too is the caller's, and would end the loop here
            self._raised = error
        self.wake()

    def outcome(self) -> _T:
        """Return what the coroutine has returned, or raise what it has raised."""
        error, self._raised = self._raised, None
        if error is not None:
            try:
                raise error
            finally:
                # The exception's traceback holds this frame and this waiter: without letting go of the exception
                # here, each failed task would leave a cycle.
                del error
        return self._returned


class LoopRunner(ABC):
    """Runs coroutines on one event loop, for callers that are not coroutines themselves."""

    @staticmethod
    @abstractmethod
    def native() -> UnpatchedThreading:
        """What starts native threads here."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.lag: LoopWatchdog | None = None
        loop.set_task_factory(child_tasks.task_factory)

    def watch(self, longest: float) -> None:
        """Warn when the loop is held up.

        Args:
            longest: For how long it may be, in seconds.
        """
        if self.lag is None:
            self.lag = LoopWatchdog(self.loop, longest, self.native(), self._left_at)
            self._call(self.lag.start)

    def held_up_by(self) -> str:
        """Say what the thread of the loop is at. Called in any thread."""
        return held_up_by(self.loop, self._thread_id(), self._left_at())

    @abstractmethod
    def keep_calling(self, function: Callable[[], None], pause: float) -> None:
        """Call a function on the thread of the loop, again and again, until the loop is closed.

        Args:
            function: What to call.
            pause: How long to wait between two calls, in seconds.
        """

    def run(self, coroutine: Coroutine[Any, Any, _T], cancel_scope: CancelScope | None = None) -> _T:
        """Run a coroutine on the loop, in a copy of the caller's context, and wait for its outcome.

        The caller waits as its pool waits: a greenlet lets the others run. Where the wait is interrupted, the
        coroutine is cancelled and its end awaited before the cancel_scope goes on.

        Args:
            coroutine: What to run.
            cancel_scope: How to interrupt it.

        Returns:
            What the coroutine returns.

        Raises:
            RuntimeError: If the caller is itself a coroutine on the loop.
            BaseException: What the coroutine raises, or what interrupted the wait.
        """
        if self._is_here():
            coroutine.close()
            raise RuntimeError(
                "A task was called synchronously from a coroutine on the worker's event loop, which would wait for "
                "itself. Await the task's `run` instead, or send it."
            )
        waiter: Waiter[_T] = self._waiter()
        set_ours = set_canceller.get()
        if cancel_scope is not None and set_ours is not None:
            set_ours(functools.partial(self._call, cancel_scope.cancel))
        context = copy_context()
        context.run(current_task.bind_current_stack)
        name = cancel_scope.label if cancel_scope is not None else None
        self._start(waiter.await_for(coroutine), name, context)
        interrupted: BaseException | None = None
        while True:
            try:
                waiter.wait()
                break
            except SoftTimeLimitExceeded as error:
                if cancel_scope is not None:
                    self._call(cancel_scope.soft_timeout, error)
            except BaseException as error:  # noqa: BLE001
                interrupted = interrupted or error
                if cancel_scope is not None:
                    self._call(cancel_scope.cancel)
                    self._unblock(cancel_scope)
        if waiter.has_returned:
            has_returned.set(True)
        if interrupted is not None:
            raise interrupted
        return waiter.outcome()

    def _serve(self) -> None:
        """Run the loop until it is stopped.

        asyncio leaves the loop where one of its tasks or callbacks raises SystemExit or KeyboardInterrupt. A handler
        may have started that one, and all the others' loop must not end with it.
        """
        while True:
            try:
                self.loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                logger.error(
                    "A task or callback on the event loop raised %r; restarting the loop", error, exc_info=True
                )
            else:
                return

    @staticmethod
    @abstractmethod
    async def run_blocking(function: Callable[[], _T]) -> _T:
        """Run a function that waits, without holding up the loop. See `pico_celery_worker.run_blocking`."""

    def close(self) -> None:
        """Cancel what is left on the loop, and close it."""
        self.run(cancel_all(self.lag))
        self._call(self.loop.stop)
        self._join()
        self.loop.close()

    @abstractmethod
    def _is_here(self) -> bool:
        """Tell whether the caller is on the loop.

        asyncio cannot tell: the running loop is that of the thread, and a coroutine that waits in a patched function
        lets other greenlets run meanwhile, which would seem to be on the loop as well.
        """

    def _unblock(self, cancel_scope: CancelScope) -> None:  # noqa: B027  # a thread cannot be raised in
        """Raise CancelledError in a coroutine that holds up the loop, where that is possible."""

    @abstractmethod
    def _thread_id(self) -> int:
        """Return the number of the loop's thread."""

    def _left_at(self) -> FrameType | None:
        """Return where the loop was left in the midst of a step, for something else on its thread."""
        return None

    @abstractmethod
    def _waiter(self) -> Waiter[Any]: ...

    @abstractmethod
    def _join(self) -> None:
        """Wait until the loop has stopped."""

    def _start(self, coroutine: Coroutine[Any, Any, None], name: str | None, context: Context) -> None:
        """Make a coroutine a task of the loop."""
        start = functools.partial(self.loop.create_task, coroutine, name=name, context=context)
        self.loop.call_soon_threadsafe(start)

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        """Call a function on the loop, soon."""
        self.loop.call_soon_threadsafe(function, *args)


async def cancel_all(lag: LoopWatchdog | None) -> None:
    """Stop the watch, cancel every other task of the running loop and wait for it, and close async generators."""
    if lag is not None:
        lag.stop()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=CLOSE_TIMEOUT)
    await asyncio.get_running_loop().shutdown_asyncgens()
