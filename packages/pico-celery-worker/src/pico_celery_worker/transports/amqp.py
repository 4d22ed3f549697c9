"""A connection to RabbitMQ for which nobody waits without end.

py-amqp 5.4 waits for answers for as long as it takes. Where the network loses what is sent, that is forever: nothing
tells a greenlet that its peer is gone, not even the heartbeats, which another one counts. So a worker under Celery 5.7
that has noticed the loss waits then for the end of the connection that remote control has, and never comes back.

Under the other pools a signal may strike while the main thread waits for an answer. Celery's handler asks RabbitMQ as
well and reads both answers, and then the main thread goes on to wait for its own.

Read in kombu 5.7.0 and py-amqp 5.4; tests/unit/worker/transports/test_amqp.py holds it to them.
"""

import functools
from collections.abc import Callable
from typing import Any, Final

from amqp.exceptions import IrrecoverableConnectionError

# For how long to wait for the broker, in seconds: to answer, to take what is sent, and to agree that it is over.
_LONGEST_ANSWER: Final = 10.0
_LONGEST_FAREWELL: Final = 4.0


class _Impatient:
    """Comes before one of kombu's transports with py-amqp."""

    reads = False
    """Whether there are consumers on the connection, which none that takes its place would have.

    kombu opens a connection again that is found lost, without a word: where a task that could not be acknowledged has
    found it, the loop would read a connection by which no message comes.
    """

    is_held_up: Callable[[], bool] = staticmethod(lambda: False)
    """Tells whether whoever reads does something else for now, and finds no heartbeat for that reason alone."""

    def heartbeat_check(self, connection: Any, rate: float = 2) -> Any:
        """Send a heartbeat if it is time to, and see that they come."""
        if self.is_held_up():
            connection.prev_recv = None  # as if something had just come
        return super().heartbeat_check(connection, rate=rate)  # type: ignore[misc]

    def establish_connection(self) -> Any:
        if self.reads:
            raise IrrecoverableConnectionError("The connection is lost, and its consumers with it.")
        connection = super().establish_connection()  # type: ignore[misc]
        connection.transport.sock.settimeout(_LONGEST_ANSWER)
        return connection

    def close_connection(self, connection: Any) -> None:
        if connection.connected:
            connection.transport.sock.settimeout(_LONGEST_FAREWELL)
        super().close_connection(connection)  # type: ignore[misc]

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:
        """Read one frame.

        py-amqp goes on until a message comes, and waits anew after each heartbeat. Where these come more often than the
        loop's two seconds, the loop would never look up, and no signal would stop the worker.
        """
        connection.blocking_read(timeout)


@functools.cache
def impatient(transport_class: Any) -> Any:
    """Return a transport that waits only for so long.

    Args:
        transport_class: kombu's transport with py-amqp, with or without TLS.
    """
    return type(transport_class.__name__, (_Impatient, transport_class), {})
