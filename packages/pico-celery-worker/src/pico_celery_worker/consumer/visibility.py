"""Messages that were delivered and not acknowledged: a worker keeps its own, and gives out those of dead ones."""

import atexit
import contextlib
import logging
from typing import Any, Final

from celery import bootsteps

from pico_celery_worker.consumer.descriptors import check_room
from pico_celery_worker.consumer.unacked import settles_at_once, unacked_messages
from pico_celery_worker.loop import runner_class
from pico_celery_worker.loop.watchdog import UnpatchedThreading
from pico_celery_worker.pools import pool_name
from pico_celery_worker.transports.workers import LIFETIME, unregister

logger = logging.getLogger(__name__)

# How long the process waits at its end for an attempt to renew that is under way, in seconds.
_LONGEST_END: Final = 10.0

# How long a worker that has ended may take to say so, in seconds.
_LONGEST_GOODBYE: Final = 1.0


class Renewal:
    """Renews what a worker has in hand, from a native thread and by a connection of its own.

    So it goes on while a task computes and holds up the loop, and while a worker that stops waits for its tasks. The
    thread logs nothing: the locks of loggers belong to the worker's greenlets.

    Args:
        channel: By which the messages came.
        connection: That of the channel. The thread opens another one like it.
        interval: How often to renew, in seconds.
        native: How to start the thread.
    """

    def __init__(self, channel: Any, connection: Any, interval: float, native: UnpatchedThreading) -> None:
        self.error: Exception | None = None
        """Why the last attempt failed, if it did."""
        self._channel = channel
        self._connection = connection
        self._interval = interval
        self._native = native
        self._own: Any = None
        self._client: Any = None
        self._uses_sockets = False
        # Locks of threads, of which each is held until something has happened.
        self._stop, self._end = native.new_lock(), native.new_lock()

    def start(self) -> None:
        """Begin to renew."""
        self._stop.acquire()
        self._end.acquire()
        # A thread that is inside gevent when Python takes itself apart crashes it.
        atexit.register(self._stop_and_wait)
        self._native.start_thread(self._run, ())

    def stop(self) -> None:
        """End to renew, without waiting for an attempt that is under way."""
        if self._stop.locked():
            self._stop.release()

    def _stop_and_wait(self) -> None:
        self.stop()
        self._end.acquire(True, _LONGEST_END)

    def renew(self) -> None:
        """Renew once."""
        try:
            if self._client is None:
                # A thread that waits gets a hub from gevent, and libev ends the process where that can open no files.
                check_room()
                # Who waits for longer has missed the next time.
                limits = dict.fromkeys(("socket_timeout", "socket_connect_timeout"), self._interval)
                options = {**self._connection.transport_options, **limits}
                self._uses_sockets = True
                self._own = self._connection.clone(transport_options=options)
                self._client = self._own.channel().client
            self._channel.renew_leases(self._client)
            self.error = None
        except Exception as error:  # noqa: BLE001  # whatever it is, the next attempt may do better
            self.error = error
            self._disconnect()

    def _run(self) -> None:
        try:
            while not self._stop.acquire(True, self._interval):
                self.renew()
        finally:
            self._disconnect()
            if self._uses_sockets:
                self._native.close_hub()
            atexit.unregister(self._stop_and_wait)
            self._end.release()

    def _disconnect(self) -> None:
        own, self._own, self._client = self._own, None, None
        if own is not None:
            with contextlib.suppress(Exception):
                own.release()


class VisibilityStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """Lets a worker look after such messages in Redis now and then.

    kombu's Redis transport keeps what was delivered and not acknowledged, and gives it out again after the visibility
    timeout, if somebody looks. What takes longer, or waits longer for its time, is executed twice. Here a worker says
    that it lives before that, of all that it has.

    Workers with kombu's event loop look for what others have left; under gevent and eventlet kombu looks only when
    nothing happens for two seconds, and its own read ends every second, so it is done here.
    """

    requires = ("celery.worker.consumer:Tasks",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._entry: Any = None
        self._renewal: Renewal | None = None
        self._registered_at: Any = None

    def start(self, parent: Any) -> None:
        """Begin to look, if the broker is one to look at."""
        transport, channel = parent.connection.transport, parent.task_consumer.channel
        if not hasattr(channel, "renew_leases"):
            return
        is_green = settles_at_once(parent)
        if is_green:
            unacked_messages.reattach(channel)
        self._registered_at = parent.connection
        channel.renew_leases()  # before the first message is taken: each is taken by a worker that is known
        options = parent.connection.transport_options or {}
        interval = float(options.get("unacked_restore_interval", transport.Channel.unacked_restore_interval))
        # Twice may fail before the third is too late.
        interval = min(interval, max(float(channel.visibility_timeout) / 3, 1.0), LIFETIME / 3)
        renewal = None
        # A prefork worker runs no tasks where it renews, and forks, which a thread might not survive.
        if pool_name(type(parent.pool)) != "prefork":
            renewal = self._renewal = Renewal(channel, parent.connection, interval, runner_class().native())
            renewal.start()

        def restore_and_flush() -> None:
            try:
                if renewal is None:
                    channel.renew_leases()
                elif renewal.error is not None:
                    logger.warning("Redis may deliver again what this worker still has in hand: %r", renewal.error)
                if is_green:
                    transport.cycle.maybe_restore_messages()
                    unacked_messages.flush()
            except (*transport.connection_errors, *transport.channel_errors) as error:
                logger.debug("Messages are still to be looked after: %r", error)

        self._entry = parent.timer.call_repeatedly(interval, restore_and_flush)

    def stop(self, parent: Any) -> None:
        """End to look where the connection is lost. A worker that stops goes on until all its tasks have ended."""
        if parent.blueprint.state == bootsteps.RUN:
            self._end()

    terminate = stop

    def shutdown(self, parent: Any) -> None:  # noqa: ARG002
        """End to look, and let clients know that this worker has ended."""
        self._end()
        connection, self._registered_at = self._registered_at, None
        if connection is not None:
            limits = dict.fromkeys(("socket_timeout", "socket_connect_timeout"), _LONGEST_GOODBYE)
            options = {**(connection.transport_options or {}), **limits}
            with contextlib.suppress(Exception), connection.clone(transport_options=options) as own:
                unregister(own.channel())

    def _end(self) -> None:
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None
        if self._renewal is not None:
            self._renewal.stop()
            self._renewal = None
