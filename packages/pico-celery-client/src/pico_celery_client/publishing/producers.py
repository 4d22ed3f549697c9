"""Producers: what messages are published with, from a pool of connections that do not wait for ever."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from celery import Celery
from kombu.connection import ConnectionPool, PooledConnection
from kombu.messaging import Producer
from kombu.pools import ProducerPool

from pico_celery_client.per_app import PerApp
from pico_celery_core.timeouts import Timeouts

Publication = tuple[Any, dict[str, Any]]
"""The body of a message, and the options that kombu's producer is to publish it with."""


class _Connection(PooledConnection):
    """A connection whose channels can publish in batches, where there are such channels for its broker."""

    def get_transport_cls(self) -> Any:
        """Return the transport's class."""
        kombus: Any = super()
        transport_class = kombus.get_transport_cls()
        batching = _batching_for(transport_class)
        return batching(transport_class) if batching else transport_class


def _batching_for(transport_class: Any) -> Callable[[Any], Any] | None:
    if transport_class.driver_type == "redis":
        from pico_celery_client.publishing import redis

        return redis.batching
    if getattr(transport_class, "driver_name", "") == "py-amqp":
        from pico_celery_client.publishing import amqp

        return amqp.batching
    return None


class _Connections(ConnectionPool):
    def new(self) -> Any:
        connect: Any = _Connection  # kombu has types for part of its arguments
        return connect(self, **self.connection.info())


class BatchingProducer(Producer):
    """kombu's producer, which can keep what it is to publish for later, and connects again for messages alone.

    kombu 5.7 would connect again for the declaration of a queue, and publish by the channel that is closed with the old
    connection. To Redis that fails with an AttributeError, which says nothing of what had gone wrong: that the
    connection was lost, or Redis is full.
    """

    _kept: list[Publication] | None = None

    @contextmanager
    def keeping(self) -> Generator[list[Publication], None, None]:
        """Keep what is published in the block in a list, instead of publishing it, where it can wait."""
        kept = self._kept = []
        try:
            yield kept
        finally:
            self._kept = None

    def publish(self, body: Any, **options: Any) -> Any:  # type: ignore[override]
        """Publish a message, or keep it for later."""
        if self._kept is not None and _can_wait(options):
            self._kept.append((body, options))
            return None
        return super().publish(body, **options)  # type: ignore[no-untyped-call]

    def maybe_declare(self, entity: Any, retry: bool = False, **retry_policy: Any) -> Any:  # noqa: ARG002
        """Declare an exchange or a queue, unless that was done before. What fails is tried again with the message."""
        # kombu asks as well, after it has made a copy of the queue.
        if entity and entity.can_cache_declaration and hash(entity) in (self.connection.declared_entities or ()):
            return False
        return super().maybe_declare(entity, retry=False)  # type: ignore[no-untyped-call]


# What concerns the moment of publishing, or may have RabbitMQ refuse a message by closing its channel, on which others
# would be.
_NOT_IN_A_BATCH: Final = ("confirm_timeout", "immediate", "mandatory", "timeout", "user_id")


def _can_wait(options: Mapping[str, Any]) -> bool:
    if not options.get("retry") or any(map(options.get, _NOT_IN_A_BATCH)):
        return False
    exchange = options.get("exchange")
    name = getattr(exchange, "name", exchange)
    # One that is not declared along need not be there.
    declared = [getattr(entity, "exchange", entity).name for entity in options.get("declare") or ()]
    return not name or name in declared


def can_batch(app: Celery) -> bool:
    """Tell whether an app's broker can be sent many messages at once."""
    transport_class: Any = app.connection_for_write().get_transport_cls()
    return _batching_for(transport_class) is not None


def producer_of(app: Celery) -> Any:
    """Return a context manager that gives a producer for an app's broker, as soon as one is free."""
    return _pools.of(app).acquire(block=True)


def _new_pool(app: Celery) -> Any:
    limit = app.conf.broker_pool_limit
    connections: Any = _Connections
    connection = app.connection_for_write(transport_options=_timeouts(app))
    return ProducerPool(connections(connection, limit), limit=limit, Producer=BatchingProducer)  # type: ignore[no-untyped-call]


# Celery's own pool has connections that wait as long as the network does: over a minute for one to be made, for ever
# for an answer. Threads that hang so would be missed by those who send next.
_pools: Final = PerApp(_new_pool)


def _timeouts(app: Celery) -> dict[str, float]:
    answer = Timeouts.of(app).publish or None
    kinds: dict[str, dict[str, Any]] = {
        "redis": {"socket_timeout": answer, "socket_connect_timeout": app.conf.broker_connection_timeout},
        "amqp": {"read_timeout": answer, "write_timeout": answer},
    }
    ours = kinds.get(app.connection_for_write().transport.driver_type, {})
    return {name: value for name, value in ours.items() if name not in app.conf.broker_transport_options}
