"""Messages that were delivered and not acknowledged: a worker keeps its own, and gives out those of dead ones."""

import logging
from typing import Any

from celery import bootsteps

from pico_celery_worker.consumer.unacked import deliveries, keeps_messages

logger = logging.getLogger(__name__)


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

    def start(self, parent: Any) -> None:
        """Begin to look, if the broker is one to look at."""
        transport, channel = parent.connection.transport, parent.task_consumer.channel
        renew = getattr(channel, "renew", None)
        if renew is None:
            return
        is_green = keeps_messages(parent)
        if is_green:
            deliveries.resume(channel)
        options = parent.connection.transport_options or {}
        interval = float(options.get("unacked_restore_interval", transport.Channel.unacked_restore_interval))
        # Twice may fail before the third is too late.
        interval = min(interval, max(float(channel.visibility_timeout) / 3, 1.0))

        def look() -> None:
            try:
                renew()
                if is_green:
                    transport.cycle.maybe_restore_messages()
                    deliveries.catch_up()
            except (*transport.connection_errors, *transport.channel_errors) as error:
                logger.debug("Messages are still to be looked after: %r", error)

        self._entry = parent.timer.call_repeatedly(interval, look)

    def stop(self, parent: Any) -> None:  # noqa: ARG002
        """End to look: the connection is lost, or the worker stops."""
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None

    terminate = stop
