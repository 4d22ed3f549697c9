"""Dead letters in Redis: a hash of them, and a sorted set of their ids by time."""

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from pico_celery_worker.dead_letters.letter import DeadLetter
from pico_celery_worker.dead_letters.options import Options

logger = logging.getLogger(__name__)

# How many letters are fetched at a time.
_BATCH: Final = 200


class RedisStore:
    """What a Redis database keeps of dead letters.

    Args:
        channel: kombu's channel to it, whose client puts the prefix of `global_keyprefix` before keys.
        options: What the settings say.
    """

    def __init__(self, channel: Any, options: Options) -> None:
        self._client = channel.client
        self._options = options
        self._letters = options.queue
        self._index = f"{options.queue}:index"

    def put(self, letter: DeadLetter) -> None:
        """Keep a letter, in the place of an earlier one of the same message; the oldest make way."""
        milliseconds = int(self._options.max_age * 1000)
        with self._client.pipeline() as pipe:
            pipe.hset(self._letters, letter.id, letter.to_json())
            pipe.zadd(self._index, {letter.id: letter.died_at.timestamp()})
            pipe.pexpire(self._letters, milliseconds)
            pipe.pexpire(self._index, milliseconds)
            pipe.execute()
        excess = self._client.zrange(self._index, 0, -(self._options.limit + 1))
        if excess:
            logger.warning(
                "There are more than %d dead letters: the oldest make way. Look at them with `celery pico dead list`",
                self._options.limit,
            )
        self._remove([*excess, *self._outdated()])

    def visit(self, take: Callable[[DeadLetter], bool]) -> None:
        """Show each letter, the oldest first, and remove those for which `take` returns True."""
        self._remove(self._outdated())
        ids = self._client.zrange(self._index, 0, -1)
        for start in range(0, len(ids), _BATCH):
            for letter in self._fetched(ids[start : start + _BATCH]):
                if take(letter):
                    self._remove([letter.id])

    def count(self) -> int:
        """Return how many letters there are."""
        number: int = self._client.hlen(self._letters)
        return number

    def _fetched(self, ids: list[bytes]) -> Iterator[DeadLetter]:
        with self._client.pipeline(transaction=False) as pipe:
            for letter_id in ids:
                pipe.hget(self._letters, letter_id)
            texts = pipe.execute()
        for text in texts:
            if text is not None:
                try:
                    yield DeadLetter.from_json(text)
                except ValueError as error:
                    logger.warning("%s holds something else: %s", self._letters, error)

    def _outdated(self) -> list[Any]:
        ceiling = time.time() - self._options.max_age
        outdated: list[Any] = self._client.zrange(self._index, "-inf", ceiling, byscore=True)
        return outdated

    def _remove(self, ids: list[Any]) -> None:
        if not ids:
            return
        with self._client.pipeline() as pipe:
            pipe.hdel(self._letters, *ids)
            pipe.zrem(self._index, *ids)
            pipe.execute()
