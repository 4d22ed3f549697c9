"""Listening for results on Redis: one subscription serves everybody."""

import asyncio
import logging
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import redis
from redis import asyncio as redis_asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from pico_celery_client.results.listener import Listener
from pico_celery_core.connections import connection_hint
from pico_celery_core.failures.backend import refuse_if_refused

logger = logging.getLogger(__name__)

_LINGER: Final = 10.0
_RECONNECT: Final = (0.05, 2.0)
_ANSWER: Final = 30.0
_BATCH: Final = 500

# A subscription may be silent for hours. Without these a server that has vanished, rather than closed the connection,
# would be waited for as long; all in seconds but the last, which is in milliseconds and not on every system.
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 60_000}


class RedisListener(Listener):
    """One subscription to the channels on which Celery publishes each state that it stores."""

    async def serve(self) -> None:
        """Subscribe, and again when the connection is lost while somebody waits."""
        lost = (*self.app.backend.connection_errors, OSError)
        shortest, longest = _RECONNECT
        pause = shortest
        while self.results:
            try:
                async with AsyncExitStack() as stack:
                    session = _RedisSession(self, stack)
                    await session.start()
                    pause = shortest
                    await session.serve()
            except* lost as errors:
                reason = errors.exceptions[0]
                url = str(self.app.backend.as_uri())
                refuse_if_refused(reason, url)  # which does not pass by itself
                if self.results:
                    told = f"{type(reason).__name__}: {reason}"
                    hint = connection_hint(told, url, "backend_url")
                    logger.warning("Lost the result backend, connecting again in %.2f s: %s %s", pause, told, hint)
            else:
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, longest)

    async def wait_for_change(self) -> bool:
        """Wait until whom somebody waits for changes; False when nobody has waited for a while."""
        try:
            async with asyncio.timeout(None if self.results else _LINGER):
                await self.changed.wait()
        except TimeoutError:
            return bool(self.results)
        self.changed.clear()
        return True


class _RedisSession:
    """One connection's time: what is subscribed ends with it."""

    def __init__(self, listener: RedisListener, stack: AsyncExitStack) -> None:
        self._listener = listener
        self._backend: Any = listener.app.backend
        pool = connection_pool(self._backend.connparams)
        stack.push_async_callback(pool.aclose)
        self._redis: Any = redis_asyncio.Redis(connection_pool=pool)
        self._pubsub: Any = self._redis.pubsub()
        stack.push_async_callback(self._pubsub.aclose)
        self._subscribed: dict[bytes, str] = {}
        self._confirmed: set[bytes] = set()
        # The channels by which something has come since the last fetch began, which is older.
        self._overtaken: set[bytes] = set()

    async def start(self) -> None:
        # Reading a subscription needs one: this is no task's channel.
        async with asyncio.timeout(_ANSWER):
            await self._pubsub.subscribe(self._channel("pico-celery"))

    async def serve(self) -> None:
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(self._read())
            await self._follow()
            reader.cancel()

    async def _read(self) -> None:
        async for message in self._pubsub.listen():
            channel = message["channel"]
            if message["type"] == "message":
                self._deliver(channel, message["data"])
            elif message["type"] == "subscribe":
                # What is subscribed again after redis-py has connected again is confirmed again, too.
                self._confirmed.add(channel)
                self._listener.changed.set()

    async def _follow(self) -> None:
        """Read what is stored, subscribe to what is not ready, and read again what may have been stored between."""
        listener = self._listener
        listener.resubscribe_all()
        while await listener.wait_for_change():
            came, went = listener.take_changes()
            await self._unsubscribe(map(self._channel, went))
            confirmed, self._confirmed = self._confirmed, set()
            new = {self._channel(task_id): task_id for task_id in came}
            await self._fetch({**{c: self._subscribed[c] for c in confirmed if c in self._subscribed}, **new})
            # Whoever has got a result has had no chance yet to go: let them, rather than subscribe for nobody.
            await asyncio.sleep(0)
            await self._subscribe({c: task_id for c, task_id in new.items() if task_id in listener.results})

    def _channel(self, task_id: str) -> bytes:
        channel: bytes = self._backend.get_key_for_task(task_id)
        return channel

    async def _subscribe(self, channels: dict[bytes, str]) -> None:
        for batch in _batches([channel for channel in channels if channel not in self._subscribed]):
            self._subscribed.update((channel, channels[channel]) for channel in batch)
            await self._pubsub.subscribe(*batch)

    async def _unsubscribe(self, channels: Iterable[bytes]) -> None:
        for batch in _batches([channel for channel in channels if channel in self._subscribed]):
            for channel in batch:
                del self._subscribed[channel]
            await self._pubsub.unsubscribe(*batch)

    async def _fetch(self, tasks: dict[bytes, str]) -> None:
        for channels in _batches(list(tasks)):
            self._overtaken.clear()
            async with asyncio.timeout(_ANSWER):
                payloads = await self._redis.mget(channels)
            for channel, payload in zip(channels, payloads, strict=True):
                if payload is not None and channel not in self._overtaken:
                    self._tell(tasks[channel], payload)

    def _deliver(self, channel: bytes, payload: bytes) -> None:
        task_id = self._subscribed.get(channel)
        if task_id is not None:
            self._overtaken.add(channel)
            self._tell(task_id, payload)

    def _tell(self, task_id: str, payload: bytes) -> None:
        try:
            self._listener.deliver(task_id, self._backend.decode_result(payload))
        except Exception as error:  # noqa: BLE001  # whoever waits for it is told
            self._listener.deliver(task_id, error)


def connection_pool(parameters: dict[str, Any]) -> Any:
    """Make a pool of asyncio connections to the server that Celery's backend connects to.

    Args:
        parameters: The backend's `connparams`.
    """
    ours = dict(parameters)
    kind = ours.pop("connection_class", redis.Connection)
    if issubclass(kind, redis.UnixDomainSocketConnection):
        ours["connection_class"] = redis_asyncio.UnixDomainSocketConnection
    else:
        if issubclass(kind, redis.SSLConnection):
            ours["connection_class"] = redis_asyncio.SSLConnection
        options = {getattr(socket, name): value for name, value in _KEEPALIVE.items() if hasattr(socket, name)}
        keepalive: dict[str, Any] = {"socket_keepalive": True, "socket_keepalive_options": options}
        ours = {**keepalive, **ours}
    # A subscription waits for as long as it takes, and needs no more than a session's two connections. The listener
    # connects again: redis-py would do so in the coroutine that reads and in the one that subscribes, at once.
    ours.update(socket_timeout=None, max_connections=None, decode_responses=False)
    ours.update(retry=Retry(NoBackoff(), 0, supported_errors=()), retry_on_timeout=False, retry_on_error=[])
    return redis_asyncio.ConnectionPool(**ours)


def _batches(items: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]
