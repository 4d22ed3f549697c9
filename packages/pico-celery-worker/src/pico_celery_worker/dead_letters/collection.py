"""DeadLetters: finds dead letters, sends them again, and drops them."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import Celery
from kombu.messaging import Producer

from pico_celery_core.errors import DeadLetterNotFoundError
from pico_celery_worker.dead_letters.letter import DeadLetter
from pico_celery_worker.dead_letters.masking import ShownLetter, shown
from pico_celery_worker.dead_letters.store import opened

# Part of kombu has types, and this has not.
_producer: Any = Producer


class DeadLetters:
    """The dead letters in an app's broker, for scripts and admin pages.

    Each call opens a connection of its own and blocks: `await asyncio.to_thread(...)` in coroutines.

    `find`, `retry` and `drop` take the same filters, all of which a letter has to pass; without any, all letters do.

    Args:
        app: The app, as the container has it. `show` masks what its handlers mark as sensitive.

    Raises:
        NoDeadLettersError: From each method, if the broker is neither Redis nor RabbitMQ.

    Example:
        >>> from celery import Celery
        >>> def resend_todays(app: Celery) -> int:
        ...     return len(DeadLetters(app).retry(task="orders.confirm", since=timedelta(days=1)))
    """

    def __init__(self, app: Celery) -> None:
        self._app = app

    def find(
        self,
        *ids: str,
        task: str | None = None,
        since: datetime | timedelta | None = None,
        error: str | None = None,
    ) -> list[DeadLetter]:
        """Return letters, the newest first.

        Args:
            *ids: The ids of letters or of tasks.
            task: The name of their task.
            since: When they died at the earliest, or how long ago at most.
            error: What their error or its reason has in it, in upper or lower case.
        """
        matches = _filter(ids, task, since, error)
        found: list[DeadLetter] = []

        def look(letter: DeadLetter) -> bool:
            if matches(letter):
                found.append(letter)
            return False

        with opened(self._app) as (_, store):
            store.visit(look)
        return sorted(found, key=lambda letter: letter.died_at, reverse=True)

    def get(self, id: str) -> DeadLetter:  # noqa: A002  # as the letter calls it
        """Return a letter; of several of one task, the newest.

        Args:
            id: The id of the letter or of its task.

        Raises:
            DeadLetterNotFoundError: If there is none.
        """
        found = self.find(id)
        if not found:
            raise DeadLetterNotFoundError(id)
        return found[0]

    def show(self, letter: DeadLetter) -> ShownLetter:
        """Return what may be shown of a letter: what its sender or its handler marks as sensitive is masked.

        Args:
            letter: The letter.
        """
        return shown(self._app, letter)

    def retry(
        self,
        *ids: str,
        task: str | None = None,
        since: datetime | timedelta | None = None,
        error: str | None = None,
    ) -> list[DeadLetter]:
        """Send letters again, to where they were sent, with their id and body, and their counts anew.

        A letter is removed when the broker has its message: who is interrupted in between may send it twice.

        Args:
            *ids: The ids of letters or of tasks.
            task: The name of their task.
            since: When they died at the earliest, or how long ago at most.
            error: What their error or its reason has in it, in upper or lower case.

        Returns:
            What was sent.
        """
        matches = _filter(ids, task, since, error)
        sent: list[DeadLetter] = []
        with opened(self._app) as (connection, store), connection.channel() as channel:
            publish = _producer(channel).publish

            def send(letter: DeadLetter) -> bool:
                if not matches(letter):
                    return False
                publish(**_publication(letter.anew()))
                sent.append(letter)
                return True

            store.visit(send)
        return sent

    def drop(
        self,
        *ids: str,
        task: str | None = None,
        since: datetime | timedelta | None = None,
        error: str | None = None,
    ) -> list[DeadLetter]:
        """Remove letters.

        Args:
            *ids: The ids of letters or of tasks.
            task: The name of their task.
            since: When they died at the earliest, or how long ago at most.
            error: What their error or its reason has in it, in upper or lower case.

        Returns:
            What was removed.
        """
        matches = _filter(ids, task, since, error)
        dropped: list[DeadLetter] = []

        def take(letter: DeadLetter) -> bool:
            if matches(letter):
                dropped.append(letter)
                return True
            return False

        with opened(self._app) as (_, store):
            store.visit(take)
        return dropped

    def count(self) -> int:
        """Return how many letters there are."""
        with opened(self._app) as (_, store):
            return store.count()


def _filter(
    ids: tuple[str, ...], task: str | None, since: datetime | timedelta | None, error: str | None
) -> Callable[[DeadLetter], bool]:
    earliest = datetime.now(UTC) - since if isinstance(since, timedelta) else since
    if earliest is not None:
        earliest = earliest.astimezone(UTC)  # of one without a time zone, it is the local one
    text = (error or "").lower()

    def matches(letter: DeadLetter) -> bool:
        return (
            (not ids or letter.id in ids or letter.task_id in ids)
            and (task is None or letter.task == task)
            and (earliest is None or letter.died_at >= earliest)
            and (text in f"{letter.reason} {letter.error}".lower())
        )

    return matches


def _publication(letter: DeadLetter) -> Mapping[str, Any]:
    """Return what kombu's `Producer.publish` takes."""
    return {
        "body": letter.body,
        "exchange": letter.exchange,
        "routing_key": letter.routing_key,
        "headers": letter.headers,
        "content_type": letter.content_type,
        "content_encoding": letter.content_encoding,
        "mandatory": True,
        **letter.properties,
    }
