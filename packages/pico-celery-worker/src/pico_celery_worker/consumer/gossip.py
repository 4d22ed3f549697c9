"""What workers tell each other, of which no message can end a worker.

With Celery 5.7 one that cannot be decompressed or decoded, or that is not what it should be, ends every worker that
listens: its error leaves the loop that reads messages of tasks as well.

Read in Celery 5.7.0; tests/unit/worker/consumer/test_gossip.py holds it to that.
"""

import logging
from typing import Any

from celery.worker.consumer.gossip import Gossip

logger = logging.getLogger(__name__)


class TolerantGossip(Gossip):  # type: ignore[misc]  # Celery has no types
    """Celery's step for the events of other workers, which drops what it cannot read.

    It takes the place of Celery's, and so has its name.
    """

    name = Gossip.name

    def get_consumers(self, channel: Any) -> list[Any]:
        """Return what reads events.

        Args:
            channel: Where they come from.
        """
        consumers: list[Any] = super().get_consumers(channel)
        for consumer in consumers:
            consumer.on_decode_error = self._drop
        return consumers

    def on_message(self, prepare: Any, message: Any) -> None:
        """Take note of an event, or drop it.

        Args:
            prepare: Makes an event of a message's payload.
            message: The message.
        """
        try:
            super().on_message(prepare, message)
        except Exception as error:  # noqa: BLE001  # no connection is used for it
            self._drop(message, error)

    @staticmethod
    def _drop(_message: Any, error: Exception) -> None:
        logger.error("An event of another worker cannot be read and is dropped: %r", error)
