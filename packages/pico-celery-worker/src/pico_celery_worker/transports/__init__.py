"""What kombu's own transports need on top, one file for each that needs it."""

from collections.abc import Callable
from typing import Any, Final

from kombu.connection import Connection

# How often what is sent is tried again where nobody says how often.
_RETRIES: Final = 1


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

    def ensure(  # type: ignore[override]
        self,
        obj: Any,
        fun: Callable[..., Any],
        errback: Callable[..., Any] | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Callable[..., Any]:
        """Return a function that connects again and tries again where the connection is lost, but not without end.

        A worker's heartbeat is an event that Celery 5.7 tries to send for ever. Where the connection for events is lost
        a second time while their exchange is declared, kombu 5.7 goes on to declare it by the channel that is gone, and
        connects each time. Whoever wants to send another event waits for that, and so does a worker that connects again
        or stops. An event that could not be sent is kept, and goes with a later one.

        Args:
            obj: What gets the new channel.
            fun: What to call.
            errback: Called with each error.
            max_retries: How often to try again; None for once.
            options: What else kombu takes.
        """
        limit = _RETRIES if max_retries is None else max_retries
        kombus: Any = super()
        return kombus.ensure(obj, fun, errback, limit, **options)  # type: ignore[no-any-return]


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
