"""Where in a result the value is that its serializer cannot encode."""

from collections.abc import Callable
from typing import Any, Final

_DEEPEST: Final = 20


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
