"""The consumers of our workers, that lose no message: neither on its way from Redis, nor with a connection."""

import functools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from celery.worker.consumer import Consumer
from greenlet import getcurrent

from pico_celery_worker.consumer.defaults import set_default
from pico_celery_worker.consumer.unacked import deliveries, keeps_messages
from pico_celery_worker.transports import use_ours

# As many greenlets send answers at a time, each by a connection of its own.
_ANSWERING: Final = 16

# How long to leave a broker alone that has refused something, in seconds.
_PAUSE: Final = 1.0


@dataclass(frozen=True)
class _NoConnection:
    """Stands where a connection is missing."""

    connection_errors: tuple[type[Exception], ...]
    channel_errors: tuple[type[Exception], ...]

    def __bool__(self) -> bool:
        return False


class PicoConsumer(Consumer):  # type: ignore[misc]  # Celery has no types
    """Celery's consumer, with our transports."""

    loop: Any
    on_task_request: Any

    _connection: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.loop = self._outlasting_refusals(self.loop)

    @property
    def connection(self) -> Any:
        """The connection to the broker; while there is none, what is false and knows the errors of one.

        Celery 5.7 ignores errors by it where it stops what came by a lost connection (`ConsumerStep._close`), and ends
        the worker if it is None then.
        """
        return self._connection or self._no_connection

    @connection.setter
    def connection(self, connection: Any) -> None:
        self._connection = connection

    @cached_property
    def _no_connection(self) -> Any:
        return _NoConnection(self.connection_errors, self.channel_errors)

    def connection_for_read(self, heartbeat: float | None = None) -> Any:
        """Return a connection by which messages and remote control's questions come."""
        connected = self._connected(self.app.connection_for_read(heartbeat=heartbeat))
        connected.transport.reads = True
        return connected

    def connection_for_write(self, url: str | None = None, heartbeat: float | None = None) -> Any:
        """Return a connection by which events go."""
        return self._connected(self.app.connection_for_write(url=url, heartbeat=heartbeat))

    def _connected(self, connection: Any) -> Any:
        connected = self.ensure_connected(use_ours(connection))
        connected.transport.is_held_up = self.is_held_up
        return connected

    def is_held_up(self) -> bool:
        """Tell whether the loop waits for something other than the broker."""
        return False

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Give up the connection. A broker that only refuses something is given a moment to come round."""
        deliveries.settled.note_loss()
        super().on_connection_error_after_connected(exc)
        if isinstance(exc, self.channel_errors) or isinstance(exc.__cause__, self.channel_errors):
            time.sleep(_PAUSE)

    def _outlasting_refusals(self, loop: Callable[..., Any]) -> Callable[..., Any]:
        """Return Celery's loop, which connects again where the broker refuses something.

        Redis does so while it may not write, RabbitMQ by closing a channel. While a worker starts, it is more likely
        that its settings are wrong, so then it ends.
        """

        def last(*args: Any, **options: Any) -> Any:
            conf = self.app.conf
            set_default(conf, "broker_channel_error_retry", True)
            try:
                return loop(*args, **options)
            except self.channel_errors as error:
                if not (conf.broker_channel_error_retry and issubclass(ConnectionResetError, self.connection_errors)):
                    raise
                raise ConnectionResetError(f"The broker refused something: {error!r}") from error

        return last


class GreenConsumer(PicoConsumer):
    """The consumer of a worker with greenlets, after whose reconnection nothing runs twice that still runs."""

    _reader: Any = None  # the greenlet that reads messages

    _waits_for_room = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        conf = kwargs["app"].conf
        connection_timeout = conf.broker_connection_timeout
        super().__init__(*args, **kwargs)
        # Celery 5.7 takes the limit away under gevent, for a gevent of long ago. Without it, an attempt to connect that
        # begins while the network loses what is sent never ends.
        conf.broker_connection_timeout = connection_timeout
        # After a reconnection Celery takes fewer messages at first, for those that run are not among the unacknowledged
        # ones any more. Here they are; and with RabbitMQ it does so from greenlets that may not read from a connection.
        set_default(conf, "worker_enable_prefetch_count_reduction", False)
        self.on_task_request = self._noting_that_it_waits(self.on_task_request)
        if keeps_messages(self):
            deliveries.keep(threading.BoundedSemaphore(_ANSWERING))

    def loop_args(self) -> tuple[Any, ...]:
        """Before the loop runs, let consumers be cancelled without waiting for an answer, which the loop reads."""
        if self.connection.transport.driver_type == "amqp":
            channel = self.task_consumer.channel
            channel.basic_cancel = functools.partial(channel.basic_cancel, nowait=True)
        self._reader = getcurrent()
        arguments: tuple[Any, ...] = super().loop_args()
        return arguments

    def is_held_up(self) -> bool:
        """Tell whether the loop waits for room in the pool."""
        return self._waits_for_room

    def _noting_that_it_waits(self, begin: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def begin_when_there_is_room(request: Any) -> Any:
            if getcurrent() is not self._reader:
                return begin(request)
            self._waits_for_room = True
            try:
                return begin(request)
            finally:
                self._waits_for_room = False

        return begin_when_there_is_room

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Give up the connection, but not what runs, unless that is to be cancelled."""
        if not self.app.conf.worker_cancel_long_running_tasks_on_connection_loss:
            deliveries.hold(getattr(self.task_consumer, "channel", None))
        end_heartbeats = getattr(self.timer, "end_heartbeats", None)
        if end_heartbeats is not None:
            end_heartbeats()
        super().on_connection_error_after_connected(exc)
