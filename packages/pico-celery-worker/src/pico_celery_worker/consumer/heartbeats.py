"""The broker's heartbeats under gevent and eventlet, read without holding up the messages."""

from typing import Any

from celery import bootsteps


class HeartbeatStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """Reads the heartbeats on the connection that events are sent over.

    Celery 5.7's loop for these pools waits a tenth of a second for them after each message (`_quick_drain` in
    celery.worker.loops), so that a worker takes no more than ten messages a second from RabbitMQ, unless it is started
    with `--without-heartbeat --without-gossip` and without `-E`. Its loop leaves that out where the consumer has no
    heartbeat, so it is told that there is none, and they are read here, now and then and without waiting.
    """

    requires = ("celery.worker.consumer:Tasks", "celery.worker.consumer.events:Events")

    _EVERY = 1.0  # seconds; the broker sends one every minute, or as often as `broker_heartbeat` says

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._heartbeat: Any = None
        self._entry: Any = None

    def start(self, parent: Any) -> None:
        """Take the reading over."""
        connection = parent.event_dispatcher.connection if parent.event_dispatcher else None
        if parent.hub is None and parent.amqheartbeat and connection is not None and connection.supports_heartbeats:
            self._heartbeat, parent.amqheartbeat = parent.amqheartbeat, 0
            self._entry = parent.timer.call_repeatedly(self._EVERY, _read, (parent.event_dispatcher,))

    def stop(self, parent: Any) -> None:
        """Give it back: the connection is lost, and the next one is opened with a heartbeat, or the worker stops."""
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None
            parent.amqheartbeat = self._heartbeat

    terminate = stop


def _read(dispatcher: Any) -> None:
    connection = dispatcher.connection
    # Who sends an event opens the connection again if it is lost, and reads the answers. One that is read here instead
    # would be missed, and with it the end of the worker, which sends an event too.
    if not connection.connected or not dispatcher.mutex.acquire(blocking=False):
        return
    try:
        connection.drain_events(timeout=0)
    except (OSError, *connection.connection_errors):
        """Nothing has come, or the connection is lost, which the heartbeat check and the next event find out."""
    finally:
        dispatcher.mutex.release()
