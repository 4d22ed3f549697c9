"""The messages that wait in an app's queues, read without taking them."""

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from amqp.exceptions import NotFound
from celery import Celery
from kombu.serialization import prepare_accept_content

from pico_celery_core.errors import NoDeadLettersError
from pico_celery_worker.dead_letters.store import connected

logger = logging.getLogger(__name__)

# Part of kombu has types, and this has not.
_accepted: Any = prepare_accept_content

# How many messages Redis shows at a time.
_BATCH: Final = 200


@dataclass(frozen=True, slots=True)
class WaitingMessage:
    """A message that no worker has begun, or that one has begun and not acknowledged.

    Args:
        queue: Where it waits.
        message: The message as a worker would get it; None where what waits is none.
    """

    queue: str
    message: Any


class WaitingMessages:
    """Reads the messages that wait in an app's broker.

    From Redis they are read where they are, with those that were delivered and not acknowledged, because they wait for
    their time or run. RabbitMQ shows a message only to who takes it: up to `limit` messages of each queue are taken,
    and given back when that is done.

    Args:
        app: The app.
        queues: The names of the queues.
        limit: How many messages of each queue to take from RabbitMQ at most.
    """

    def __init__(self, app: Celery, queues: Iterable[str], limit: int) -> None:
        self._app = app
        self._queues = list(queues)
        self._limit = limit
        self._accept = _accepted(app.conf.accept_content)
        self.left_out: dict[str, int] = {}
        """How many messages of a queue were not read, where it has more than `limit`."""
        self.taken = 0
        """How many messages were taken from RabbitMQ, and given back."""

    def __iter__(self) -> Iterator[WaitingMessage]:
        driver = self._app.connection_for_read().get_transport_cls().driver_type
        if driver not in ("redis", "amqp"):
            raise NoDeadLettersError(self._app.connection_for_read().as_uri())
        with connected(self._app, reads=True) as connection:
            if driver == "redis":
                yield from self._of_redis(connection.default_channel)
            else:
                for queue in self._queues:
                    yield from self._of_rabbitmq(connection, queue)

    def _of_redis(self, channel: Any) -> Iterator[WaitingMessage]:
        # kombu's client puts the prefix before the keys of some commands, and not of these.
        prefix, client = channel.global_keyprefix, channel.client
        for queue in self._queues:
            for step in channel.priority_steps:
                key = f"{prefix}{queue}{channel.sep}{step}" if step else f"{prefix}{queue}"
                for start in range(0, client.llen(key.removeprefix(prefix)), _BATCH):
                    for item in client.lrange(key, -start - _BATCH, -start - 1):
                        yield WaitingMessage(queue, self._message(channel, item))
        for _, item in client.hscan_iter(prefix + channel.unacked_key, count=_BATCH):
            try:
                envelope, _, routing_key = json.loads(item)
            except ValueError:
                continue  # kombu could not restore it either
            if routing_key in self._queues:
                yield WaitingMessage(routing_key, self._message(channel, json.dumps(envelope)))

    def _message(self, channel: Any, item: Any) -> Any:
        try:
            return channel.Message(json.loads(item), channel=channel, accept=self._accept)
        except Exception as error:  # noqa: BLE001  # whatever is in it, it is no message
            logger.debug("What waits is no message: %r", error)
            return None

    def _of_rabbitmq(self, connection: Any, queue: str) -> Iterator[WaitingMessage]:
        # When the channel is closed, RabbitMQ puts back where they were the messages that were not acknowledged.
        with connection.channel() as channel:
            try:
                ready = channel.queue_declare(queue, passive=True).message_count
            except NotFound:
                return
            if ready > self._limit:
                self.left_out[queue] = ready - self._limit
            for _ in range(min(ready, self._limit)):
                message = channel.basic_get(queue)
                if message is None:
                    return
                self.taken += 1
                message = channel.message_to_python(message)
                message.accept = self._accept
                yield WaitingMessage(queue, message)
