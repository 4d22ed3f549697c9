"""Publishing many messages for one sender: in batches, each of which is waited for once."""

import asyncio
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from celery import Celery
from kombu.exceptions import OperationalError

from pico_celery_client.publishing.batches import FAILURES, MOST_MESSAGES, send_together
from pico_celery_client.publishing.patterns import CallMessage, Pattern, may_have_patterns
from pico_celery_client.publishing.producers import can_batch, producer_of
from pico_celery_client.publishing.publisher import broker_of, threads_of
from pico_celery_client.publishing.sending import is_heard
from pico_celery_core.errors import PublishTimeoutError

# How many of those are sent one by one while their sender waits for all of them: a deadline holds for each hundred, or
# for each of these.
_MOST_ALONE: Final = 10


async def publish_many(messages: Sequence[CallMessage], timeout: float | None) -> None:
    """Send messages off the event loop. Each is told what has become of it.

    Args:
        messages: The messages.
        timeout: How long a batch of them may take, in seconds; None for as long as Celery tries.
    """
    try:
        for batch in _batches(messages):
            try:
                async with asyncio.timeout(timeout):
                    await asyncio.wrap_future(threads_of(batch[0].app).submit(_send, batch))
            except TimeoutError:
                _end_late(batch, timeout or 0)
            _spare_the_rest(batch, messages)
    finally:
        for message in messages:
            message.awaited = False


def publish_many_here(messages: Sequence[CallMessage]) -> None:
    """Send messages, and wait for the broker on this thread. Each is told what has become of it.

    Args:
        messages: The messages.
    """
    for batch in _batches(messages):
        _send(batch)
        _spare_the_rest(batch, messages)


def _batches(messages: Sequence[CallMessage]) -> Iterator[list[CallMessage]]:
    for _, group in groupby(messages, lambda message: id(message.app)):
        of_app = list(group)
        size = MOST_MESSAGES if _is_for_batches(of_app[0].app) else _MOST_ALONE
        for start in range(0, len(of_app), size):
            batch = [message for message in of_app[start : start + size] if message.is_pending]
            if batch:
                yield batch


def _is_for_batches(app: Celery) -> bool:
    return not is_heard() and can_batch(app)


def _send(messages: Sequence[CallMessage]) -> None:
    app = messages[0].app
    alone = list(messages)
    if _is_for_batches(app):
        alone = [message for message in messages if not message.is_for_a_batch]
        _send_together(app, [message for message in messages if message.is_for_a_batch])
    failures = 0
    for message in alone:
        if message.awaited:
            message.send_alone()
            failures = failures + 1 if isinstance(message.outcome, OperationalError) else 0
        if failures >= FAILURES:
            _spare(alone, message.outcome)


def _send_together(app: Celery, messages: Sequence[CallMessage]) -> None:
    patterns: dict[str, Pattern] | None = {} if may_have_patterns(app) else None
    for message in messages:
        message.patterns = patterns
    try:
        with producer_of(app) as producer:
            send_together(producer, messages)
    except Exception as error:  # noqa: BLE001  # the sender is told of it with its messages
        for message in messages:
            if message.outcome is None:
                message.fail(error)


def _spare_the_rest(batch: Sequence[CallMessage], messages: Sequence[CallMessage]) -> None:
    """Try no further messages if a batch has failed as a whole, which is the broker's fault."""
    outcomes = [message.outcome for message in batch]
    is_away = all(isinstance(outcome, (OperationalError, PublishTimeoutError)) for outcome in outcomes)
    if is_away and len(batch) >= FAILURES:
        _spare([message for message in messages if message.app is batch[0].app], outcomes[0])


def _spare(messages: Sequence[CallMessage], error: Exception) -> None:
    for message in messages:
        if message.outcome is None:
            message.awaited = False
            message.give_up(OperationalError(f"Nothing was sent, as those before it failed: {error}"))


def _end_late(batch: Sequence[CallMessage], timeout: float) -> None:
    for message in batch:
        message.awaited = False  # before it is asked how far it is: it may begin at this moment
    for message in batch:
        if message.outcome is None:
            problem = str(message.problem or "")
            broker = broker_of(message.app)
            message.give_up(PublishTimeoutError(message.task, timeout, broker, problem, message.begun))
