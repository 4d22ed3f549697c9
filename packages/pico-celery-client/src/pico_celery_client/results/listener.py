"""Listening for results: one listener an event loop serves everybody who waits there.

On Redis it is one subscription, on any other backend one poller. Either reads what is there already, so that no result
is missed that was stored before it listened.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import Context
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from celery import Celery, states
from celery.backends.base import DisabledBackend
from celery.result import AsyncResult

from pico_celery_core.errors import ListeningCancelledError, ResultBackendError
from pico_celery_core.progress import PROGRESS

logger = logging.getLogger(__name__)

Meta = dict[str, Any]
"""What a result backend says of a task: its status, result, traceback and more."""


def is_ready(meta: Meta) -> bool:
    """Tell whether a task has come to its end."""
    return meta["status"] in states.READY_STATES


def state_key(found: Meta | Exception) -> tuple[str, str]:
    """Return what is news of a task, if it has changed: its status, and how far it is.

    Values are not compared: they may be new objects each time they are read, or refuse it.
    """
    if isinstance(found, Exception):
        return "", repr(found)
    return found["status"], repr(found["result"]) if found["status"] == PROGRESS else ""


class Listener(ABC):
    """Tells those who wait on one event loop what becomes of their tasks.

    Args:
        app: The app whose result backend is listened to.
    """

    def __init__(self, app: Celery) -> None:
        self.app = app
        self.results: dict[str, AsyncResult] = {}
        """Whom somebody waits for, by their ids."""
        self.changed = asyncio.Event()
        """Set when that changes, or when there is something to fetch."""
        self._added: set[str] = set()
        self._removed: set[str] = set()
        self._queues: dict[str, set[asyncio.Queue[Meta | Exception]]] = {}
        self._running: asyncio.Task[None] | None = None

    @contextmanager
    def listening(self, result: AsyncResult) -> Generator[asyncio.Queue[Meta | Exception]]:
        """Listen to a task for as long as the block lasts.

        Args:
            result: The task's result.

        Yields:
            A queue of what the backend says of it, from what it says now on; an exception where it cannot be read.
        """
        task_id = str(result.id)
        queue: asyncio.Queue[Meta | Exception] = asyncio.Queue()
        self._queues.setdefault(task_id, set()).add(queue)
        self.results[task_id] = result
        self._added.add(task_id)
        self.changed.set()
        if self._running is None or self._running.done():
            # In a context of its own: it outlives the task that happens to be the first to wait.
            context = Context()
            start = asyncio.get_running_loop().create_task
            self._running = start(self._run(), name="pico-celery results", context=context)
            self._running.add_done_callback(self._ended, context=context)
        try:
            yield queue
        finally:
            queues = self._queues[task_id]
            queues.discard(queue)
            if not queues:
                del self._queues[task_id], self.results[task_id]
                self._removed.add(task_id)
                self.changed.set()

    def take_changes(self) -> tuple[list[str], list[str]]:
        """Return whom somebody has begun to wait for since this was last asked, and whom nobody waits for any more."""
        came = [task_id for task_id in self._added if task_id in self.results]
        went = [task_id for task_id in self._removed if task_id not in self.results]
        self._added.clear()
        self._removed.clear()
        return came, went

    def resubscribe_all(self) -> None:
        """Have `take_changes` tell of all whom somebody waits for, as after a connection is lost."""
        self._added.update(self.results)
        self._removed.clear()
        self.changed.set()

    def deliver(self, task_id: str, news: Meta | Exception) -> None:
        """Pass on what the backend says of a task to all who wait for it."""
        for queue in self._queues.get(task_id, ()):
            queue.put_nowait(news)

    @abstractmethod
    async def serve(self) -> None:
        """Deliver for as long as somebody waits."""

    async def _run(self) -> None:
        while self.results:
            self.resubscribe_all()
            await self.serve()

    def _ended(self, running: asyncio.Task[None]) -> None:
        """Tell those who still wait why nobody listens any more."""
        failed = ListeningCancelledError(running.get_name()) if running.cancelled() else running.exception()
        if not isinstance(failed, Exception):
            return
        error = failed.exceptions[0] if isinstance(failed, ExceptionGroup) else failed
        if isinstance(error, ResultBackendError):
            logger.error("%s", error)
        elif not running.cancelled():
            logger.error("Listening for results failed", exc_info=failed)
        for task_id in list(self._queues):
            self.deliver(task_id, error)


# Whoever waits, and the running listener itself, keep it; nothing here keeps it or its loop.
_listeners: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakValueDictionary[Celery, Listener]] = WeakKeyDictionary()


def listener_for(app: Celery) -> Listener:
    """Return the running event loop's listener for an app's results.

    Raises:
        NotImplementedError: If the app has no result backend.
    """
    backend = app.backend
    if isinstance(backend, DisabledBackend):
        backend.get_result("")  # raises with Celery's own words
    listeners = _listeners.setdefault(asyncio.get_running_loop(), WeakValueDictionary())
    listener = listeners.get(app)
    if listener is None:
        listener = listeners[app] = _kind_for(backend)(app)
    return listener


def _kind_for(backend: Any) -> type[Listener]:
    kind = f"{type(backend).__module__}.{type(backend).__qualname__}"
    # Sentinel, which derives from it, finds its servers in a way of its own: it is polled.
    if kind == "celery.backends.redis.RedisBackend":
        from pico_celery_client.results.redis import RedisListener

        return RedisListener
    from pico_celery_client.results.polling import Poller, RpcPoller

    return RpcPoller if kind == "celery.backends.rpc.RPCBackend" else Poller
