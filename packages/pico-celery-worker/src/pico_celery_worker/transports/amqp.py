"""A connection to RabbitMQ that never waits without end.

py-amqp 5.4 waits for answers for as long as it takes. Where the network loses what is sent, that is forever: nothing
tells a greenlet that its peer is gone, not even the heartbeats, which another one counts. So a worker under Celery 5.7
that has noticed the loss waits then for the end of the connection that remote control has, and never comes back. A
limit of the socket alone is not enough: RabbitMQ under a memory alarm reads nothing from those who publish, but sends
heartbeats, each of which would begin the wait anew.

Under the other pools a signal may strike while the main thread waits for an answer. Celery's handler asks RabbitMQ as
well and reads both answers, and then the main thread goes on to wait for its own.

Read in kombu 5.7.0 and py-amqp 5.4; tests/unit/worker/transports/test_amqp.py holds it to them.
"""

import functools
import math
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

from amqp.exceptions import IrrecoverableConnectionError
from kombu.transport import pyamqp

# For how long to wait for the broker, in seconds: to answer, to take what is sent, and to agree that it is over.
_ANSWER_TIMEOUT: Final = 10.0
_CLOSE_TIMEOUT: Final = 4.0


class _Limited:
    """Comes before py-amqp's channel and connection: an answer has one limit, whatever else comes meanwhile."""

    connection: Any

    def wait(self, *args: Any, **options: Any) -> Any:
        connection = self.connection
        if connection is None:
            return super().wait(*args, **options)  # type: ignore[misc]
        with connection.within(connection.transport.sock.gettimeout() or _ANSWER_TIMEOUT):
            return super().wait(*args, **options)  # type: ignore[misc]

    def close(self, *args: Any, **options: Any) -> Any:
        if self.connection is None:
            return None
        with self.connection.closing():
            return super().close(*args, **options)  # type: ignore[misc]


class _Channel(_Limited, pyamqp.Channel):
    """A channel whose consumers are cancelled without waiting for the answer, which is for the receive loop to read."""

    def basic_cancel(self, consumer_tag: str, **_: Any) -> Any:
        return super().basic_cancel(consumer_tag, nowait=True)


class _Connection(_Limited, pyamqp.Connection):
    Channel = _Channel

    # For how long answers may still be waited for, in seconds. What is done about other messages meanwhile, such as to
    # wait for a free slot in the pool, is not counted.
    _left = math.inf
    _is_silent = False

    @contextmanager
    def within(self, seconds: float) -> Generator[None, None, None]:
        """Limit how long answers are waited for in the block, all in all."""
        outer = self._left
        self._left = limit = min(outer, seconds)
        try:
            yield
        finally:
            self._left += outer - limit

    @contextmanager
    def closing(self) -> Generator[None, None, None]:
        """Limit how long it takes to agree that it is over. Who has not answered once is not waited for again."""
        with self.within(0 if self._is_silent else _CLOSE_TIMEOUT):
            try:
                yield
            except TimeoutError:
                self._is_silent = True
                raise

    def blocking_read(self, timeout: float | None = None) -> Any:
        if self._left <= 0:
            raise TimeoutError("RabbitMQ has not answered in time.")
        if self._left < math.inf:
            timeout = self._left if timeout is None else min(timeout, self._left)
        began = time.monotonic()
        try:
            with self.transport.having_timeout(timeout):
                frame = self.transport.read_frame()
        finally:
            self._left -= time.monotonic() - began
        take: Any = self.on_inbound_frame
        return take(frame)


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
