"""What a worker does with messages that are none: it rejects them, and lives.

Celery 5.7 expects most of a message's parts to be what Celery itself would have put there. One without an id, or whose
body is `null`, makes its consumer fail: the worker stops, gives the message back, and the next worker stops too. Others
get as far as the pool, where they are acknowledged and lost without a result. Here all of them are rejected as Celery
rejects the invalid messages it knows of: logged as an error, with the signal `task_rejected`, and to the dead letters
where the broker has a place for them.

Read in Celery 5.7.0 and kombu 5.7.0. tests/integration/test_poison.py holds it to them.
"""

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from celery import signals
from celery.exceptions import InvalidTaskError
from celery.utils.time import maybe_iso8601
from kombu.utils.encoding import safe_repr

from pico_celery_core.errors import MessageTooLargeError
from pico_celery_core.message_size import check_size, max_message_size
from pico_celery_worker.consumer.failures import forget, is_messages, leave
from pico_celery_worker.consumer.masking import UntakenMessages
from pico_celery_worker.dead_letters.letter import Reason
from pico_celery_worker.loop.log_fields import log_fields

logger = logging.getLogger(__name__)

_LONGEST_HEADERS: Final = 1000

# Timers wait no longer, in seconds.
_LONGEST_WAIT: Final = 10**9

# Between two attempts a task may have to wait for two to this power of seconds, which someone calculates.
_LARGEST_COUNT: Final = 10**7
_COUNTS: Final = ("retries", "replaced_task_nesting")

_LONGEST_TIME: Final = 100

# What comes after the task, in the third part of a body.
_LINKS: Final = ("callbacks", "errbacks", "chain")

# What most messages have not, or have empty.
_NO_LIMITS: Final = (None, [None, None], (None, None))
_NO_COUNT: Final = (None, 0)
_UNUSUAL_PARTS: Final = (*_LINKS, "chord", "delivery_info")
_UNUSUAL_HEADERS: Final = ("stamped_headers", "shadow", "eta", "expires", *_UNUSUAL_PARTS)
_NO_STAMPS: Final[tuple[Any, ...]] = (None, {})
_NO_PARTS: Final[list[Any]] = [None] * len(_UNUSUAL_PARTS)
_NO_HEADERS: Final[list[Any]] = [None] * len(_UNUSUAL_HEADERS)

# Part of kombu has types, and this has not.
_shown: Any = safe_repr


def rejecting_malformed(consumer: Any, receive: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return what receives a message if it is well-formed, and rejects it otherwise.

    Args:
        consumer: Celery's consumer.
        receive: Receives a message: Celery's own reception.
    """
    largest = max_message_size(consumer.app.conf)

    def receive_or_reject(message: Any) -> Any:
        try:
            check_size(message.body, largest)
            check(message)
        except (InvalidTaskError, MessageTooLargeError) as error:
            return consumer.on_invalid_task(None, message, error)
        except Exception as error:  # noqa: BLE001
            # It cannot be decoded, and Celery knows what to do about that.
            logger.debug("A message cannot be checked: %s: %s", type(error).__name__, error)
        try:
            return receive(message)
        except Exception as error:  # noqa: BLE001  # the message has to be accounted for
            account_for(consumer, message, error)

    return receive_or_reject


def account_for(consumer: Any, message: Any, error: Exception) -> None:
    """Reject a message, or leave it with the broker and end the worker, after its reception has failed.

    Args:
        consumer: Celery's consumer.
        message: The message.
        error: What was raised.

    Raises:
        Exception: The error, where it is that of a lost connection.
    """
    if _is_of_the_connection(consumer, error):
        raise error
    if is_messages(error, message, consumer.app):
        UntakenMessages(consumer.app).hidden(_reject)(None, message, error, consumer)
    else:
        leave(message, error)


def _is_of_the_connection(consumer: Any, error: Exception) -> bool:
    # kombu's Redis transport counts KeyError among them, which anything may raise.
    lost = (*consumer.connection_errors, *consumer.channel_errors)
    return isinstance(error, lost) and not isinstance(error, KeyError)


def check(message: Any) -> None:
    """Check that a message has the shape that Celery gives to a task's.

    Args:
        message: A message whose content type is accepted.

    Raises:
        InvalidTaskError: If it has not, saying what is wrong.
    """
    headers = message.headers
    if headers is None:
        return  # Celery refuses it
    _expect(isinstance(headers, Mapping), "headers is not a mapping")
    if "task" in headers:
        body = message.payload
        if _is_ordinary(headers, body):
            return
        # Between its two protocols Celery had messages that say something in either place.
        _check_headers({**body, **headers} if isinstance(body, Mapping) else headers)
        _check_body(body)
    elif isinstance(message.payload, Mapping) and "task" in message.payload:
        _check_headers(message.payload)
        _check_call(message.payload.get("args", ()), message.payload.get("kwargs", {}))


def _is_ordinary(headers: Mapping[str, Any], body: Any) -> bool:
    """Tell in one step that a message is as most are. Any other is looked at part by part."""
    get = headers.get
    retries = get("retries")
    if (
        type(headers["task"]) is not str
        or type(get("id")) is not str
        or not get("id")
        or get("timelimit") not in _NO_LIMITS
        or type(retries) is not int
        or not 0 <= retries <= _LARGEST_COUNT
        or get("replaced_task_nesting") not in _NO_COUNT
        or get("stamps") not in _NO_STAMPS
        or [*map(get, _UNUSUAL_HEADERS)] != _NO_HEADERS
        or type(body) is not list
        or len(body) != 3  # noqa: PLR2004
    ):
        return False
    args, kwargs, embed = body
    is_call = type(args) is list and type(kwargs) is dict and {str}.issuperset(map(type, kwargs))
    return is_call and type(embed) is dict and [*map(embed.get, _UNUSUAL_PARTS)] == _NO_PARTS


def _check_headers(headers: Mapping[str, Any]) -> None:
    task_id = headers.get("id")
    limits = headers.get("timelimit")
    stamped = headers.get("stamped_headers")
    _expect(isinstance(headers["task"], str), "task is not a string")
    _expect(isinstance(task_id, str) and bool(task_id), "id is missing or not a string")
    _expect(limits is None or _are_limits(limits), "timelimit is not a pair of numbers of seconds, or one is too large")
    _expect(stamped is None or _are_texts(stamped), "stamped_headers is not a list of strings")
    _expect(isinstance(headers.get("stamps"), (Mapping, type(None))), "stamps is not a mapping")
    _expect(isinstance(headers.get("shadow"), (str, type(None))), "shadow is not a string")
    for name in _COUNTS:
        number = headers.get(name)
        is_count = number is None or (isinstance(number, int) and abs(number) <= _LARGEST_COUNT)
        _expect(is_count, f"{name} is not an integer, or is too large")
    _check_links(headers)
    for name in ("eta", "expires"):
        _expect(_is_time(headers.get(name)), f"{name} is not an ISO 8601 time that exists in every time zone")


def _are_limits(limits: Any) -> bool:
    if not isinstance(limits, (list, tuple)) or len(limits) != 2:  # noqa: PLR2004  # the hard and the soft one
        return False
    return all(limit is None or (isinstance(limit, (int, float)) and 0 <= limit <= _LONGEST_WAIT) for limit in limits)


def _are_texts(values: Any) -> bool:
    return isinstance(values, (list, tuple, set)) and all(isinstance(value, str) for value in values)


def _is_time(value: Any) -> bool:
    if value is None or isinstance(value, datetime):
        return True
    if not isinstance(value, str) or len(value) > _LONGEST_TIME:
        return False
    try:
        time = maybe_iso8601(value)
        time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except Exception:  # noqa: BLE001  # Celery lets several parsers try
        return False
    return True


def _check_body(body: Any) -> None:
    if isinstance(body, Mapping) and "args" in body:
        _check_call(body["args"], body.get("kwargs", {}))
        return
    _expect(isinstance(body, (list, tuple)) and len(body) == 3, "body does not have three parts")  # noqa: PLR2004
    args, kwargs, embed = body
    _check_call(args, kwargs)
    _expect(embed is None or isinstance(embed, Mapping), "the third part of body (embed) is not a mapping")
    _check_links(embed or {})


def _check_links(parts: Mapping[str, Any]) -> None:
    # Celery makes one mapping of a message's headers and of the third part of its body.
    for name in _LINKS:
        links = parts.get(name)
        _expect(links is None or _are_signatures(links), f"{name} is not a list of signatures")
    for name in ("chord", "delivery_info"):
        _expect(isinstance(parts.get(name), (Mapping, type(None))), f"{name} is not a mapping")


def _are_signatures(links: Any) -> bool:
    return isinstance(links, (list, tuple)) and all(isinstance(link, Mapping) for link in links)


def _check_call(args: Any, kwargs: Any) -> None:
    _expect(isinstance(args, (list, tuple)), "args is not a list")
    _expect(isinstance(kwargs, Mapping), "kwargs is not a mapping")
    _expect(all(isinstance(name, str) for name in kwargs), "a key of kwargs is not a string")


def _expect(condition: bool, problem: str) -> None:
    if not condition:
        raise InvalidTaskError(problem)


def _reject(_body: Any, message: Any, error: Exception, consumer: Any) -> None:
    headers = _shown(message.headers)[:_LONGEST_HEADERS]
    logger.error(
        "A message cannot be received and is rejected: %r. Its headers: %s",
        *(error, headers),
        exc_info=error,
        extra=log_fields("message-rejected"),
    )
    if not consumer.is_kept(message, error, Reason.MALFORMED):
        return
    forget(message)
    if not message.acknowledged:
        message.reject_log_error(logger, consumer.connection_errors)
    signals.task_rejected.send(sender=consumer, message=message, exc=error)
