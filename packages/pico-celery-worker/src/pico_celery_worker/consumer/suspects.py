"""Messages that a worker may have died of: they begin a few at a time, in no order, and more as they do no harm.

A task that ends its process, by `os._exit` or by taking more memory than there is, is redelivered with all that the
process had in hand, and RabbitMQ puts them where they were in their queue. A worker that began them in that order, as
fast as it can, would die of the same task before any of the others has ended, and so would the next.

A broker tells only that a message was delivered before, and not which one did the harm. It may be any of them, and what
matters is that others end before it begins. In no order, about half of them do in the life of a worker, and the next
one has the other half to look after. After a worker that was merely stopped, or killed by somebody else, the number of
those that run doubles with each round, so that little time is lost.
"""

import logging
import random
import time
from collections.abc import Callable
from typing import Any, Final

from celery.worker import state

from pico_celery_worker.consumer.unacked import Identity, identity, was_redelivered
from pico_celery_worker.pools import is_shutting_down

logger = logging.getLogger(__name__)

# How often to look who has ended, in seconds.
_ROUND: Final = 1.0

# After how long a task that still runs counts as harmless, in seconds: long ones should not wait for each other.
_LONG_ENOUGH: Final = 10.0


class Suspects:
    """Lets requests begin in the order of their arrival, but for those that may end the worker.

    Args:
        consumer: Celery's consumer.
        begin: Begins a request.
    """

    def __init__(self, consumer: Any, begin: Callable[[Any], None]) -> None:
        self._consumer = consumer
        self._begin = begin
        self._waiting: dict[Identity, Any] = {}
        self._watched: list[tuple[Any, float]] = []
        self._harmless = 0
        self._rounds: Any = None
        self._is_collecting = False

    def receive(self, request: Any) -> None:
        """Begin a request, now or when it is its turn.

        Args:
            request: The request, which Celery counts as reserved.
        """
        if not _is_suspect(request):
            self._begin(request)
            return
        key = identity(request.message)
        if key not in self._waiting:
            # It is not counted with the others, as one that waits for its `eta`: it would be all that a worker takes.
            self._consumer.qos.increment_eventually()
        # Redis may have a message twice, restored by two workers, until it is acknowledged.
        self._waiting[key] = request
        if self._rounds is None:
            self._is_collecting = True
            self._rounds = self._consumer.timer.call_repeatedly(_ROUND, self._look)

    def forget(self) -> None:
        """Forget what waits: with the connection that it came by, it goes back to the broker."""
        self._waiting.clear()
        self._end_rounds()

    def _look(self) -> None:
        if is_shutting_down():
            return
        if self._is_collecting:
            self._is_collecting = False  # for one round, so that there are some to choose from
            return
        now = time.monotonic()
        watched = [
            (request, since) for request, since in self._watched if _runs(request) and since > now - _LONG_ENOUGH
        ]
        self._harmless += len(self._watched) - len(watched)
        self._watched = watched
        if not self._harmless and not watched and self._waiting:
            logger.info(
                "%d messages were delivered before, perhaps to a worker that died of one of them: they begin a few at "
                "a time, in no order",
                len(self._waiting),
            )
        while self._waiting and len(self._watched) <= self._harmless:
            request = self._waiting.pop(random.choice(tuple(self._waiting)))  # noqa: S311
            self._watched.append((request, time.monotonic()))
            self._consumer.qos.decrement_eventually()
            self._begin(request)
        if not self._waiting and not self._watched:
            self._end_rounds()

    def _end_rounds(self) -> None:
        if self._rounds is not None:
            self._rounds.cancel()
            self._rounds = None


def _is_suspect(request: Any) -> bool:
    # One whose message is acknowledged before it begins is not delivered again after that.
    return bool(request.task.acks_late) and was_redelivered(request.message)


def _runs(request: Any) -> bool:
    return state.requests.get(request.id) is request
