"""Threads for calls that may hang: the interpreter does not wait for them when it ends."""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Any

_Calls = SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]


class DaemonThreads(Executor):
    """A few threads, started as they are needed. They end with it.

    The standard library's pool waits for its threads when the interpreter ends, for minutes where the network drops
    packets; and the event loop's own pool serves others, whom a dead server must not hold up.

    Args:
        name: What the threads are called.
        most: How many there are at most.
    """

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._most = most
        self._lock = threading.Lock()
        self._calls: _Calls = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call a function in a thread."""
        future: Future[Any] = Future()
        self._calls.put((future, lambda: fn(*args, **kwargs)))
        with self._lock:
            if not self._idle.acquire(blocking=False) and self._threads < self._most:
                self._threads += 1
                threading.Thread(target=_work, args=(self._calls, self._idle), name=self._name, daemon=True).start()
        return future

    def __del__(self) -> None:
        for _ in range(self._threads):
            self._calls.put(None)


# No method: a thread must not keep whom it ends with.
def _work(calls: _Calls, idle: threading.Semaphore) -> None:
    while (waiting := calls.get()) is not None:
        future, call = waiting
        if future.set_running_or_notify_cancel():
            try:
                value = call()
            except BaseException as error:  # noqa: BLE001  # the caller's
                future.set_exception(error)
            else:
                future.set_result(value)
                del value
        del waiting, future, call
        idle.release()
