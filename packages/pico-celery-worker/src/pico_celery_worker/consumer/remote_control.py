"""Remote control under gevent and eventlet, which outlives its connection.

Read in Celery 5.7.0; tests/unit/worker/consumer/test_remote_control.py holds it to the private parts that are used.
"""

import functools
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from celery import bootsteps
from celery.worker.consumer.control import Control
from celery.worker.pidbox import gPidbox

logger = logging.getLogger(__name__)

# How long to wait before connecting again, in seconds.
_PAUSE: Final = 1.0

# How long a worker that stops, or connects again, waits for an answer that is being given, in seconds.
_LONGEST_FAREWELL: Final = 4.0


class RemoteControlStep(bootsteps.Step):  # type: ignore[misc]  # Celery has no types
    """Connects remote control again where it alone has lost its connection, and waits for it no longer than need be.

    It has one of its own for these pools, and a greenlet that reads from it. Where that one is lost and the consumer's
    is not, the greenlet of Celery 5.7 ends, and the worker answers no more until it is started again. And while the
    broker cannot be reached, an answer that it has begun to give holds up the end of the worker.
    """

    requires = (Control,)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        for step in parent.steps:
            box = getattr(step, "box", None)
            if isinstance(step, Control) and isinstance(box, gPidbox):
                vars(box).update(loop=functools.partial(_last, box, box.loop), on_stop=functools.partial(_stop, box))


def _last(box: Any, loop: Callable[[Any], None], consumer: Any) -> None:
    """Read questions for as long as the consumer has its connection."""
    # The next connection of the consumer brings another reader, with another mark.
    mark = box.reader = object()
    while True:
        try:
            loop(consumer)
        except (*consumer.connection_errors, *consumer.channel_errors) as error:
            lost = error
        else:
            return
        time.sleep(_PAUSE)
        if box.reader is not mark or not consumer.connection or consumer.blueprint.state != bootsteps.RUN:
            return
        logger.warning("Remote control has lost its connection (%r) and connects again", lost)


def _stop(box: Any) -> None:
    """Let the reader end, and wait for that."""
    if box._node_stopped:  # noqa: SLF001  # what Celery's own waits for without end
        box._node_shutdown.set()  # noqa: SLF001
        box._node_stopped.wait(_LONGEST_FAREWELL)  # noqa: SLF001
        box._node_stopped = box._node_shutdown = None  # noqa: SLF001
