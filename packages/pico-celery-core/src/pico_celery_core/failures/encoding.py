"""A result that cannot be encoded. Its error is here, as it is one of kombu, which takes long to import."""

from collections.abc import Callable
from typing import Any, Final

from kombu.exceptions import EncodeError

from pico_celery_core.errors import PicoCeleryError

_DEEPEST: Final = 20


# Celery's tracer fails the task for an EncodeError; anything else it would take for an error of its own.
class ResultEncodingError(PicoCeleryError, EncodeError, TypeError):
    """What a handler has returned cannot be encoded, so it cannot be stored.

    Args:
        task: The task's name.
        place: Where in the result the value is, such as `result['lines'][0]`.
        kind: The value's type.
        serializer: What cannot encode it.
    """

    task: str
    place: str
    kind: str
    serializer: str
    template = (
        "The result of task {task!r} cannot be stored: the {serializer} serializer cannot encode {place}, a {kind}. "
        "Return plain values instead: numbers, text, lists, dicts, dates, UUIDs; or a model, with "
        "@task(..., pydantic=True)."
    )


def unencodable(value: Any, encode: Callable[[Any], object]) -> tuple[str, Any]:
    """Return where in a result the first value is that cannot be encoded, and the value.

    Args:
        value: The result.
        encode: Encodes a value, or raises.
    """
    place = "result"
    for _ in range(_DEEPEST):
        inner = next((item for item in _items(value) if not _encodes(item[1], encode)), None)
        if inner is None:
            break
        place, value = f"{place}[{inner[0]!r}]", inner[1]
    return place, value


def _items(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, dict):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, (list, tuple)) else []


def _encodes(value: Any, encode: Callable[[Any], object]) -> bool:
    try:
        encode(value)
    except Exception:  # noqa: BLE001  # a serializer may raise anything
        return False
    return True
