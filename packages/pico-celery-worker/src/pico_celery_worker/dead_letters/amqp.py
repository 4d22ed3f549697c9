"""Dead letters in RabbitMQ: a queue of their own."""

import logging
from collections.abc import Callable
from typing import Any, Final

from amqp.exceptions import NotFound
from kombu.messaging import Producer

from pico_celery_worker.dead_letters.letter import DeadLetter
from pico_celery_worker.dead_letters.options import Options

logger = logging.getLogger(__name__)

# Part of kombu has types, and this has not.
_producer: Any = Producer

_PERSISTENT: Final = 2


class AmqpStore:
    """What RabbitMQ keeps of dead letters.

    Args:
        connection: A connection to it that confirms what is published.
        options: What the settings say.
    """

    def __init__(self, connection: Any, options: Options) -> None:
        self._connection = connection
        self._options = options

    def put(self, letter: DeadLetter) -> None:
        """Keep a letter; the oldest make way."""
        with self._connection.channel() as channel:
            self._declare(channel)
        with self._connection.channel() as channel:
            publish = _producer(channel).publish
            publish(
                letter.to_json(),
                exchange="",
                routing_key=self._options.queue,
                content_type="application/json",
                content_encoding="utf-8",
                delivery_mode=_PERSISTENT,
                mandatory=True,
            )

    def visit(self, take: Callable[[DeadLetter], bool]) -> None:
        """Show each letter, the oldest first, and remove those for which `take` returns True.

        RabbitMQ shows a message only to who takes it: what is not removed goes back when the channel closes. Of a
        message that became a dead letter more than once, the last letter is shown, and all are removed with it.
        """
        if not self.count():
            return
        with self._connection.channel() as channel:
            letters: dict[str, DeadLetter] = {}
            tags: dict[str, list[str]] = {}
            for _ in range(self._options.limit):
                message = channel.basic_get(self._options.queue)
                if message is None:
                    break
                try:
                    letter = DeadLetter.from_json(message.body)
                except ValueError as error:
                    logger.warning("The queue %s holds something else: %s", self._options.queue, error)
                    continue
                letters[letter.id] = letter
                tags.setdefault(letter.id, []).append(message.delivery_tag)
            for letter in letters.values():
                if take(letter):
                    for tag in tags[letter.id]:
                        channel.basic_ack(tag)

    def count(self) -> int:
        """Return how many letters there are."""
        try:
            with self._connection.channel() as channel:
                number: int = channel.queue_declare(self._options.queue, passive=True).message_count
                return number
        except NotFound:
            return 0

    def _declare(self, channel: Any) -> None:
        """Make the queue, or take it as it is."""
        try:
            channel.queue_declare(self._options.queue, passive=True)
        except NotFound:
            arguments = {
                "x-max-length": self._options.limit,
                "x-message-ttl": int(self._options.max_age * 1000),
            }
            with self._connection.channel() as another:
                another.queue_declare(self._options.queue, durable=True, auto_delete=False, arguments=arguments)
