"""Signals under gevent and eventlet: what Celery does about one is done in a greenlet.

A handler runs wherever the signal happens to strike, most often on the hub, which may not wait for anything. But Celery
5.7's handlers do: for the soft shutdown to pass, for tasks to end, for the broker to hear of cancelled consumers. There
they raise BlockingSwitchOutError and the like, and the worker does not stop.
"""

import importlib
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from greenlet import getcurrent

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT)


class SignalHandlers:
    """Lets the handlers that are installed run in greenlets. Made in the worker's main greenlet.

    Args:
        greenlets: The kind of greenlets, "gevent" or "eventlet".
    """

    def __init__(self, greenlets: str = "gevent") -> None:
        library: Any = importlib.import_module(greenlets)
        self.spawn: Callable[..., Any] = library.spawn
        self._kill = library.kill
        self._main = getcurrent()

    def defer(self) -> None:
        """Put a greenlet between each signal and its handler, unless there is one, and let signals come."""
        for number in STOP_SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler) and not isinstance(handler, _Deferred):
                signal.signal(number, _Deferred(self, handler))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    def handle(self, handler: Callable[[int, FrameType | None], Any], number: int, frame: FrameType | None) -> None:
        """Run a handler. What it raises is meant for the main greenlet, as it would be without gevent."""
        try:
            handler(number, frame)
        except BaseException as error:  # noqa: BLE001
            self._kill(self._main, error)


class _Deferred:
    def __init__(self, handlers: SignalHandlers, handler: Callable[[int, FrameType | None], Any]) -> None:
        self._handlers = handlers
        self._handler = handler

    def __call__(self, number: int, frame: FrameType | None) -> None:
        # Celery's handlers install others, for the next signal, before they wait. That one is kept back until there is
        # a greenlet between it and them.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        self._handlers.spawn(self._handlers.handle, self._handler, number, frame)
        self._handlers.spawn(self._handlers.defer)
