"""Publishing to Redis: many messages in one pipeline, and one client for all.

kombu 5.7's channel makes a client of redis-py for each message, which is a fifth of the work of sending it. And its own
batches do not tell which of their messages Redis has refused. What is used of it beside its public methods is the
argument `_publish_batch`, by which a message's commands are collected instead of sent.
tests/unit/client/publishing/test_redis.py holds it to that.
"""

import functools
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any


class RedisBatch:
    """Messages that go to Redis together.

    Args:
        channel: The channel that publishes them.
    """

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._messages: list[list[tuple[str, tuple[Any, ...]]]] = []
        self.size = 0
        """How large they are, in bytes, or nearly so."""

    def begin(self) -> None:
        """Begin another message."""
        self._messages.append([])

    def take_back(self) -> None:
        """Forget the message that was begun last."""
        self._messages.pop()

    def add(self, name: str, *args: Any) -> None:
        """Add a command to the message that was begun last; kombu's channel calls this.

        Args:
            name: The name of a method of redis-py's client.
            *args: Its arguments.
        """
        self._messages[-1].append((name, args))
        self.size += len(args[-1]) if isinstance(args[-1], (str, bytes)) else 0

    def send(self) -> list[Exception | None]:
        """Send the messages, and begin anew.

        Returns:
            For each of them None, or why Redis has refused it.

        Raises:
            redis.exceptions.ConnectionError: If the connection is lost. Some of them may have arrived.
        """
        messages, self._messages, self.size = self._messages, [], 0
        with self._channel.conn_or_acquire() as client, client.pipeline(transaction=False) as pipe:
            for commands in messages:
                for name, args in commands:
                    getattr(pipe, name)(*args)
            answers = iter(pipe.execute(raise_on_error=False))
        return [_first_error([next(answers) for _ in commands]) for commands in messages]


class _BatchingChannel:
    """Comes before kombu's channels to Redis and to Sentinel."""

    pool: Any
    _batch: RedisBatch | None = None
    _client_of_pool: Any = None

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Generator[Any, None, None]:
        """Give a client, the same one as long as the pool of connections is the same."""
        if client is None:
            client = self._client_of_pool
            if client is None or client.connection_pool is not self.pool:
                with super().conn_or_acquire() as client:  # type: ignore[misc]
                    self._client_of_pool = client
        yield client

    @contextmanager
    def collecting(self) -> Generator[RedisBatch, None, None]:
        """Have what is published in the block wait in a batch, until it is sent."""
        self._batch = RedisBatch(self)
        try:
            yield self._batch
        finally:
            self._batch = None

    def basic_publish(self, message: Any, exchange: str, routing_key: str, **options: Any) -> Any:
        """Publish a message, or add it to the batch."""
        publish = super().basic_publish  # type: ignore[misc]
        if self._batch is None:
            return publish(message, exchange, routing_key, **options)
        self._batch.begin()
        try:
            return publish(message, exchange, routing_key, _publish_batch=self._batch, **options)
        except BaseException:
            self._batch.take_back()
            raise


@functools.cache
def batching(transport_class: Any) -> Any:
    """Return a transport whose channels can publish in batches.

    Args:
        transport_class: kombu's transport to Redis or to Sentinel.
    """
    channel = type("BatchingChannel", (_BatchingChannel, transport_class.Channel), {})
    return type(transport_class.__name__, (transport_class,), {"Channel": channel})


def _first_error(answers: list[Any]) -> Exception | None:
    return next((answer for answer in answers if isinstance(answer, Exception)), None)
