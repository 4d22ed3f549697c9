"""Remote control under gevent and eventlet, which outlives its connection.

Read in Celery 5.7.0; tests/unit/worker/consumer/test_remote_control.py holds it to the private parts that are used.
"""

import logging
import time
from typing import Any, Final

from celery import bootsteps
from celery.worker.consumer.control import Control
from celery.worker.pidbox import gPidbox

logger = logging.getLogger(__name__)

# How long to wait before connecting again, in seconds.
_PAUSE: Final = 1.0

# How long a worker that stops, or connects again, waits for a reply that is being sent, in seconds.
_STOP_TIMEOUT: Final = 4.0


class RemoteControl(Control):  # type: ignore[misc]  # Celery has no types
    """Celery's step for remote control, with a mailbox that connects again where it alone has lost its connection.

    It takes the place of Celery's, and so has its name.
    """

    name = Control.name

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        box: Any = ReconnectingMailbox(parent)
        self.box, self.start, self.stop, self.shutdown = box, box.start, box.stop, box.shutdown


class ReconnectingMailbox(gPidbox):  # type: ignore[misc]
    """Celery's mailbox for these pools, read by a greenlet with a connection of its own.

    Where that connection is lost and the consumer's is not, the greenlet of Celery 5.7 ends, and the worker answers no
    more until it is started again. And while the broker cannot be reached, a reply that it has begun to send holds up
    the end of the worker.
    """

    _node_shutdown: Any
    _node_stopped: Any
    _reader: Any = None

    def loop(self, consumer: Any) -> None:
        """Read commands for as long as the consumer has its connection.

        Args:
            consumer: Celery's consumer.
        """
        # The next connection of the consumer brings another reader, with another mark.
        mark = self._reader = object()
        while True:
            try:
                super().loop(consumer)
            except (*consumer.connection_errors, *consumer.channel_errors) as error:
                lost = error
            else:
                return
            time.sleep(_PAUSE)
            if self._reader is not mark or not consumer.connection or consumer.blueprint.state != bootsteps.RUN:
                return
            logger.warning("Remote control has lost its connection (%r) and connects again", lost)

    def on_stop(self) -> None:
        """Let the reader end, and wait for that, but not without end as Celery does."""
        if self._node_stopped:
            self._node_shutdown.set()
            self._node_stopped.wait(_STOP_TIMEOUT)
            self._node_stopped = self._node_shutdown = None
