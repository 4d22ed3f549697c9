"""What kombu's own transports need on top, one file for each that needs it."""

from typing import Any


def use_ours(connection: Any) -> Any:
    """Let a connection use our transports, where there is one for its broker.

    Args:
        connection: A `kombu.Connection` that is not connected yet. It may go to another broker later.

    Returns:
        The same connection.

    Example:
        >>> from kombu import Connection
        >>> use_ours(Connection("redis://localhost")).get_transport_cls().Channel.__name__
        'ReservingChannel'
    """
    kombus = connection.get_transport_cls

    def get_transport_cls() -> Any:
        transport_class = kombus()
        if transport_class.driver_type == "redis":
            from pico_celery_worker.transports.redis import reserving

            return reserving(transport_class)
        if transport_class.driver_type == "amqp":
            from pico_celery_worker.transports.amqp import impatient

            return impatient(transport_class)
        return transport_class

    connection.get_transport_cls = get_transport_cls
    return connection
