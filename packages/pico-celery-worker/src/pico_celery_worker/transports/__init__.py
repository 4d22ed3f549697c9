"""What kombu's own transports need on top, one file for each that needs it."""

from typing import Any

from kombu.connection import Connection


class ReliableConnection(Connection):
    """A connection that uses our transports, where there is one for its broker, also after a failover to another."""

    def get_transport_cls(self) -> Any:
        """Return the transport's class."""
        kombus: Any = super()
        transport_class = kombus.get_transport_cls()
        if transport_class.driver_type == "redis":
            from pico_celery_worker.transports.redis import reserving

            return reserving(transport_class)
        if transport_class.driver_type == "amqp":
            from pico_celery_worker.transports.amqp import with_timeouts

            return with_timeouts(transport_class)
        return transport_class


def with_reliable_transport(connection: Any) -> ReliableConnection:
    """Return a connection to the same broker that uses our transports.

    Args:
        connection: A `kombu.Connection`; it need not be connected.

    Example:
        >>> from kombu import Connection
        >>> with_reliable_transport(Connection("redis://localhost")).get_transport_cls().Channel.__name__
        'ReservingChannel'
    """
    connect: Any = ReliableConnection  # kombu has types for part of its arguments
    return connect(**connection.info())  # type: ignore[no-any-return]
