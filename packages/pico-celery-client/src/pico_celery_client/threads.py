"""Threads for calls that may hang: the interpreter does not wait for them when it ends."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Any
from weakref import WeakSet


class DaemonThreads(Executor):
    """A few threads, started as they are needed.

    The standard library's pool waits for its threads when the interpreter ends, for minutes where the network drops
    packets; and the event loop's own pool serves others, whom a dead server must not hold up.

    Args:
        name: What the threads are called.
        most: How many there are at most.
    """

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._most = most
        self._reset()
        _all.add(self)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call a function in a thread."""
        future: Future[Any] = Future()
        with self._lock:
            starts = self._idle == 0 and self._threads < self._most
            if starts:
                self._threads += 1
            elif self._idle:
                self._idle -= 1
        self._waiting.put((future, lambda: fn(*args, **kwargs)))
        if starts:
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
        return future

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._waiting: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._threads = 0
        self._idle = 0

    def _work(self) -> None:
        waiting, lock = self._waiting, self._lock
        while True:
            future, call = waiting.get()
            if future.set_running_or_notify_cancel():
                try:
                    value = call()
                except BaseException as error:  # noqa: BLE001  # the caller's
                    future.set_exception(error)
                else:
                    future.set_result(value)
            del future, call
            with lock:
                self._idle += 1


_all: WeakSet[DaemonThreads] = WeakSet()


def _forget_threads() -> None:
    """A forked child has none of its parent's threads."""
    for threads in _all:
        threads._reset()  # noqa: SLF001


os.register_at_fork(after_in_child=_forget_threads)
