"""pydantic's ValidationError, which only its own class method makes."""

import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from kombu.utils.encoding import safe_repr

KEY: Final = "pydantic"

# Part of kombu has types, and this has not.
_repr: Any = safe_repr


def describe(error: BaseException, is_plain: Callable[[Any], bool]) -> dict[str, Any] | None:
    """Return a ValidationError as plain data, or None for another exception.

    Args:
        error: The exception.
        is_plain: Tells whether the result backend can store a value.
    """
    kind: Any = _kind()
    if kind is None or not isinstance(error, kind):
        return None
    found: Any = error
    hides_input = kind.__reduce__(found)[1][3:4] == (True,)
    lines = [_line(line, is_plain) for line in found.errors(include_url=False)]
    return {"title": found.title, "lines": lines, "hides_input": hides_input}


def make(cls: Any, found: Mapping[str, Any]) -> BaseException:
    """Make a ValidationError of plain data.

    Args:
        cls: pydantic's class, or a subclass of it.
        found: What `describe` has returned.

    Raises:
        Exception: If it is not that.
    """
    if not issubclass(cls, _kind()):
        raise TypeError(f"{cls.__qualname__} is no ValidationError")
    lines = [_restored(line) for line in found["lines"]]
    error: BaseException = cls.from_exception_data(found["title"], lines, "python", found["hides_input"])
    return error


def _kind() -> Any:
    return getattr(sys.modules.get("pydantic_core"), "ValidationError", None)


def _line(line: Mapping[str, Any], is_plain: Callable[[Any], bool]) -> dict[str, Any]:
    given, context = line["input"], line.get("ctx") or {}
    described = {"type": line["type"], "loc": list(line["loc"]), "msg": line["msg"]}
    if is_plain(given):
        described["input"] = given
    else:
        described["shown"] = [type(given).__qualname__, _repr(given)]
    described["ctx"] = {name: value for name, value in context.items() if is_plain(value)}
    if isinstance(context.get("error"), Exception):
        described["error"] = str(context["error"])
    return described


def _restored(line: Mapping[str, Any]) -> dict[str, Any]:
    core: Any = sys.modules["pydantic_core"]
    kind, context = line["type"], dict(line["ctx"])
    if "error" in line:
        context["error"] = ValueError(line["error"])
    try:
        is_known = core.PydanticKnownError(kind, context).message() == line["msg"]
    except Exception:  # noqa: BLE001  # it is of the application's own, or lacks what could not be sent
        is_known = False
    if not is_known:
        kind = core.PydanticCustomError(kind, line["msg"], {})
    given = line["input"] if "input" in line else _like(*line["shown"])
    return {"type": kind, "loc": tuple(line["loc"]), "input": given, "ctx": context}


def _like(kind: str, shown: str) -> Any:
    """Return what shows as an input that could not be sent."""
    return type(kind, (), {"__repr__": lambda _: shown})()
