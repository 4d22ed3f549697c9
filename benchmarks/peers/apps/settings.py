"""What each app is told of a run, by its environment."""

import os
from typing import Any, Final

BROKER: Final = os.environ["PEERS_BROKER"]
RESULTS: Final = os.environ["PEERS_RESULTS"]
CONCURRENCY: Final = int(os.environ["PEERS_CONCURRENCY"])
VARIANT: Final = os.environ["PEERS_VARIANT"]

# aio-pika waits for RabbitMQ's confirmation of each message unless it is told otherwise: so do the others.
CONFIRMED: Final[dict[str, Any]] = (
    {"broker_transport_options": {"confirm_publish": True}} if BROKER.startswith("amqp") else {}
)
