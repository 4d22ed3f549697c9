"""When a message was published, as a header of the message says.

Celery 5.7 and kombu put no time into a message, so a worker could not tell how long a task has waited in its queue. The
header is written where Celery publishes, so also for retries, chains and what `celery beat` sends.
"""

import time
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, Final

from celery import signals

PUBLISHED_AT: Final = "pico_published_at"
"""The header: seconds since 1970, as a number."""

# What is later is in other units than seconds, or is nonsense: the year 5138.
_LATEST: Final = 1e11


def note_publishing_times() -> None:
    """Put the time into every message that this process publishes from now on. To call it again does no harm."""
    signals.before_task_publish.connect(_note, dispatch_uid="pico-celery publishing time")


def _note(headers: MutableMapping[str, Any] | None = None, **_: Any) -> None:
    # A retry has the headers of its predecessor, and a time of its own.
    if headers is not None:
        headers[PUBLISHED_AT] = round(time.time(), 6)


def published_at(headers: Mapping[str, Any], properties: Mapping[str, Any]) -> float | None:
    """Return when a message was published, or became due if it has an eta; in seconds since 1970.

    Args:
        headers: The message's.
        properties: Those of AMQP, whose `timestamp` RabbitMQ can set.

    Returns:
        The time; None if the message does not say, or says what is no time.

    Example:
        >>> published_at({"pico_published_at": 1_700_000_000.5}, {})
        1700000000.5
        >>> published_at({"pico_published_at": 1_700_000_000.5, "eta": "2023-11-14T22:13:50+00:00"}, {})
        1700000030.0
        >>> published_at({"pico_published_at": "yesterday"}, {})
    """
    published = _seconds(headers.get(PUBLISHED_AT)) or _seconds(properties.get("timestamp"))
    eta = headers.get("eta")
    if published is None or not isinstance(eta, str):
        return published
    try:
        due = datetime.fromisoformat(eta)
    except ValueError:
        return published
    # Celery writes the offset; a time without one is UTC, as its messages have been by default.
    return max(published, (due if due.tzinfo else due.replace(tzinfo=UTC)).timestamp())


def _seconds(value: Any) -> float | None:
    if isinstance(value, datetime):
        return value.replace(tzinfo=value.tzinfo or UTC).timestamp()
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and 0 < value < _LATEST else None
