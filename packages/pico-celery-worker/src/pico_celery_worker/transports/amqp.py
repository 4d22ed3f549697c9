"""A connection to RabbitMQ for which nobody waits without end.

py-amqp 5.4 waits for answers for as long as it takes. Where the network loses what is sent, that is forever: nothing
tells a greenlet that its peer is gone, not even the heartbeats, which another one counts. So a worker under Celery 5.7
that has noticed the loss waits then for the end of the connection that remote control has, and never comes back.

Under the other pools a signal may strike while the main thread waits for an answer. Celery's handler asks RabbitMQ as
well and reads both answers, and then the main thread goes on to wait for its own.

Read in kombu 5.7.0 and py-amqp 5.4; tests/unit/worker/transports/test_amqp.py holds it to them.
"""

import functools
from typing import Any, Final

from amqp.exceptions import IrrecoverableConnectionError
from kombu.transport import pyamqp

# For how long to wait for the broker, in seconds: to answer, to take what is sent, and to agree that it is over.
_ANSWER_TIMEOUT: Final = 10.0
_CLOSE_TIMEOUT: Final = 4.0


class _Channel(pyamqp.Channel):
    """A channel whose consumers are cancelled without waiting for the answer, which is for the receive loop to read."""

    def basic_cancel(self, consumer_tag: str, **_: Any) -> Any:
        return super().basic_cancel(consumer_tag, nowait=True)


class _Connection(pyamqp.Connection):
    Channel = _Channel


class _TimeoutTransport:
    """Comes before one of kombu's transports with py-amqp."""

    Connection = _Connection

    reads = False
    """Whether there are consumers on the connection, which none that takes its place would have.

    kombu opens a connection again that is found lost, without a word: where a task that could not be acknowledged has
    found it, the loop would read a connection by which no message comes.
    """

    def establish_connection(self) -> Any:
        if self.reads:
            raise IrrecoverableConnectionError("The connection is lost, and its consumers with it.")
        connection = super().establish_connection()  # type: ignore[misc]
        connection.transport.sock.settimeout(_ANSWER_TIMEOUT)
        return connection

    def close_connection(self, connection: Any) -> None:
        if connection.connected:
            connection.transport.sock.settimeout(_CLOSE_TIMEOUT)
        super().close_connection(connection)  # type: ignore[misc]

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:
        """Read one frame.

        py-amqp goes on until a message comes, and waits anew after each heartbeat. Where these come more often than the
        loop's two seconds, the loop would never look up, and no signal would stop the worker.
        """
        connection.blocking_read(timeout)


@functools.cache
def with_timeouts(transport_class: Any) -> Any:
    """Return a transport that waits only for so long.

    Args:
        transport_class: kombu's transport with py-amqp, with or without TLS.
    """
    return type(transport_class.__name__, (_TimeoutTransport, transport_class), {})
