"""What may be shown of a dead letter."""

from dataclasses import dataclass
from typing import Any, Final

from celery import Celery
from celery.utils.saferepr import saferepr
from kombu.message import Message
from kombu.serialization import prepare_accept_content

from pico_celery_core.sensitive import MASK
from pico_celery_worker.dead_letters.letter import DeadLetter, Reason
from pico_celery_worker.tasks.masking import ARGS, KWARGS, is_masked
from pico_celery_worker.tasks.task import AsyncTask

# Part of kombu has types, and this has not.
_accepted: Any = prepare_accept_content

_UNREADABLE: Final = "(cannot be decoded)"


@dataclass(frozen=True, slots=True)
class ShownLetter:
    """What may be shown of a letter.

    Args:
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        error: Its error.
        traceback: The traceback of the error.
    """

    args: str
    kwargs: str
    error: str
    traceback: str


def shown(app: Celery, letter: DeadLetter) -> ShownLetter:
    """Return what may be shown of a letter.

    Nothing of its arguments, if its sender masks some, or if it may be for a task whose handler does: where nobody
    knows for which task it is, one such task is enough.

    Args:
        app: The app, whose handlers say what is sensitive.
        letter: The letter.
    """
    task = app.tasks.get(letter.task)
    mask = task.mask if isinstance(task, AsyncTask) else None
    arguments = arguments_of(app, letter)
    if arguments is None:
        return _masked(letter) if _may_be_sensitive(app, letter) else _open(letter, _UNREADABLE, _UNREADABLE)
    args, kwargs = arguments
    if mask:
        headers = mask.over(letter.headers, args, kwargs)
        return _open(letter, headers[ARGS], headers[KWARGS])
    if _may_be_sensitive(app, letter):
        return _masked(letter)
    return _open(letter, saferepr(args), saferepr(kwargs))


def arguments_of(app: Celery, letter: DeadLetter) -> tuple[Any, Any] | None:
    """Return the arguments of a letter, or None where they cannot be decoded.

    Args:
        app: The app, whose settings say what content is accepted.
        letter: The letter.
    """
    try:
        body: Any = message_of(app, letter).payload
        if isinstance(body, dict):
            args, kwargs = body.get("args", ()), body.get("kwargs", {})
        else:
            args, kwargs, _ = body
        return list(args), dict(kwargs)
    except Exception:  # noqa: BLE001  # a serializer may raise anything
        return None


def message_of(app: Celery, letter: DeadLetter) -> Message:
    """Return a letter as the message that it was.

    Args:
        app: The app, whose settings say what content is accepted.
        letter: The letter.
    """
    make: Any = Message
    message: Message = make(
        body=letter.body,
        headers=letter.headers,
        properties=dict(letter.properties),
        content_type=letter.content_type,
        content_encoding=letter.content_encoding,
        delivery_info={"exchange": letter.exchange, "routing_key": letter.routing_key},
        delivery_tag=letter.id,
        accept=_accepted(app.conf.accept_content),
    )
    return message


def _may_be_sensitive(app: Celery, letter: DeadLetter) -> bool:
    if is_masked(letter.headers):
        return True
    if letter.task in app.tasks:
        task = app.tasks[letter.task]
        return isinstance(task, AsyncTask) and bool(task.mask)
    return any(isinstance(task, AsyncTask) and task.mask for task in app.tasks.values())


def _open(letter: DeadLetter, args: str, kwargs: str) -> ShownLetter:
    return ShownLetter(args, kwargs, letter.error, letter.traceback)


def _masked(letter: DeadLetter) -> ShownLetter:
    # What has failed in decoding a body may show a piece of it.
    if letter.reason in (Reason.UNDECODABLE, Reason.MALFORMED):
        return ShownLetter(MASK, MASK, f"{letter.error.partition(':')[0]}: {MASK}", MASK)
    return _open(letter, MASK, MASK)
