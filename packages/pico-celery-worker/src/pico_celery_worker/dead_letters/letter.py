"""DeadLetter: a message as it was received, and why it could not be run."""

import base64
import enum
import hashlib
import traceback as tracebacks
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, Self

from celery.utils.nodenames import gethostname
from kombu.utils.json import dumps, loads

# Part of kombu has types, and these have not.
_dumps: Any = dumps
_loads: Any = loads

# What of an error is kept, in characters.
_LONGEST_ERROR: Final = 2_000
_LONGEST_TRACEBACK: Final = 20_000

# The properties of a message that it keeps when it is sent again. The broker makes the others anew.
_PROPERTIES: Final = ("correlation_id", "reply_to", "priority", "delivery_mode", "message_id", "type", "app_id")

# It is of kombu's making, and says how the body was compressed before it was delivered.
_COMPRESSION: Final = "compression"


class Reason(enum.StrEnum):
    """Why a message became a dead letter."""

    UNKNOWN_TASK = "unknown-task"
    """The worker has no task of this name."""

    UNDECODABLE = "undecodable"
    """Its body cannot be decoded."""

    MALFORMED = "malformed"
    """It is no message of a task, a part of it is missing or wrong, or its content is not accepted."""

    ARGUMENTS = "arguments"
    """Its arguments do not fit the handler."""

    FAILURE = "failure"
    """The task failed, and was not retried any more."""


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """A message that could not be run, whole, and what is known of its failure.

    Args:
        id: What the letter is called: made of the message, so that one message has one letter.
        task_id: The id of the task; empty where the message does not say.
        task: The name of the task; empty where the message does not say.
        reason: Why the message was given up.
        error: The type of the error, and its text.
        traceback: The traceback of the error.
        died_at: When the message was given up.
        retries: How many retries the task had made.
        redelivered: Whether the broker had delivered the message before.
        worker: The name of the host whose worker has given it up.
        exchange: The exchange to which it was sent; empty for the default one.
        routing_key: The routing key with which it was sent, which is the name of the queue as a rule.
        headers: Its headers.
        properties: Its properties.
        content_type: The type of its content.
        content_encoding: The encoding of its content.
        body: Its body, decompressed.
    """

    id: str
    task_id: str
    task: str
    reason: Reason
    error: str
    traceback: str = field(repr=False)
    died_at: datetime
    retries: int
    redelivered: bool
    worker: str
    exchange: str
    routing_key: str
    headers: Any = field(repr=False)
    properties: Mapping[str, Any] = field(repr=False)
    content_type: str | None = None
    content_encoding: str | None = None
    body: bytes = field(repr=False)

    @classmethod
    def of(cls, message: Any, error: BaseException, reason: Reason, traceback: str = "") -> Self:
        """Make the letter of a message.

        Args:
            message: The message, as kombu has delivered it.
            error: Why it cannot be run.
            reason: Why it is given up.
            traceback: The traceback, where the error itself has none.
        """
        body = _bytes(message.body)
        headers = message.headers
        if isinstance(headers, Mapping) and not message.errors:
            headers = {name: value for name, value in headers.items() if name != _COMPRESSION}
        parts = _parts(message)
        retries = parts.get("retries")
        info = message.delivery_info if isinstance(message.delivery_info, Mapping) else {}
        given = message.properties if isinstance(message.properties, Mapping) else {}
        task_id, task = _text(parts.get("id")), _text(parts.get("task"))
        return cls(
            id=hashlib.sha256(b"\0".join((task_id.encode(errors="replace"), body))).hexdigest()[:16],
            task_id=task_id,
            task=task,
            reason=reason,
            error=f"{type(error).__name__}: {error}"[:_LONGEST_ERROR],
            traceback=(traceback or "".join(tracebacks.format_exception(error, chain=False)))[-_LONGEST_TRACEBACK:],
            died_at=datetime.now(UTC),
            retries=retries if isinstance(retries, int) else 0,
            redelivered=bool(info.get("redelivered") or parts.get("redelivered")),
            worker=gethostname(),
            exchange=_text(info.get("exchange")),
            routing_key=_text(info.get("routing_key")),
            headers=headers,
            properties={name: given[name] for name in _PROPERTIES if given.get(name) is not None},
            content_type=message.content_type,
            content_encoding=message.content_encoding,
            body=body,
        )

    def anew(self) -> Self:
        """Return the letter as it is sent again: its body and id as they were, its counts anew, and not expired."""
        headers = self.headers if isinstance(self.headers, Mapping) else {}
        counted = {**headers, "retries": 0} if "retries" in headers else dict(headers)
        return replace(self, headers={name: value for name, value in counted.items() if name not in _SPENT})

    def to_json(self) -> str:
        """Return the letter as JSON."""
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        data["died_at"] = self.died_at.timestamp()
        data["body"] = base64.b64encode(self.body).decode()
        text: str = _dumps(data)
        return text

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a letter.

        Args:
            text: What `to_json` returns.

        Raises:
            ValueError: If it is something else.
        """
        try:
            data = _loads(text)
            known = {name: value for name, value in data.items() if name in cls.__dataclass_fields__}
            known["reason"] = Reason(known["reason"])
            known["died_at"] = datetime.fromtimestamp(known["died_at"], UTC)
            known["body"] = base64.b64decode(known["body"])
            return cls(**known)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise ValueError(f"this is no dead letter: {error}") from error


# What a message has behind it when somebody sends it again.
_SPENT: Final = ("expires", "redelivered")


def _parts(message: Any) -> Mapping[str, Any]:
    """Return where a message says which task it is for: in its headers, or in its body, as Celery did before."""
    headers = message.headers if isinstance(message.headers, Mapping) else {}
    if "task" in headers or message.errors:
        return headers
    try:
        body = message.payload
    except Exception:  # noqa: BLE001  # whatever it is, nobody can read it
        return headers
    return body if isinstance(body, Mapping) else headers


def _bytes(body: Any) -> bytes:
    return body.encode(errors="surrogateescape") if isinstance(body, str) else bytes(body or b"")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
