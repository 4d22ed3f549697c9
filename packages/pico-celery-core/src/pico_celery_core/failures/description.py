"""A worker's exception as plain data, for a result backend to store.

Celery stores an exception's class and its `args`. That is kept as it is, for callers that know no more. What else makes
the exception stands beside it under a key of its own, which they do not read.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from kombu.utils.encoding import safe_repr

from pico_celery_core.failures import validation

KEY: Final = "pico_celery"
"""Where the details of an exception stand beside what Celery stores of it."""

TEXT: Final = "_pico_celery_text"
"""Where an exception that was restored keeps what it says, if it could not say that by itself."""

Details = dict[str, Any]

# How many exceptions a result may hold, members of groups and causes, and how deep.
_MOST_EXCEPTIONS: Final = 1000
_DEEPEST: Final = 20
_MOST_BASES: Final = 20

# These say with which arguments a task was called, which a result does not otherwise show.
_ARGUMENTS: Final = frozenset({"task_args", "task_kwargs"})

# Part of kombu has types, and this has not.
_shown: Any = safe_repr


class Describer:
    """Describes an exception, with its notes, causes and members.

    Args:
        is_plain: Tells whether the result backend can store a value.
    """

    def __init__(self, is_plain: Callable[[Any], bool]) -> None:
        self._is_plain = is_plain
        self._left = _MOST_EXCEPTIONS

    def describe(self, error: BaseException, depth: int = 0) -> dict[str, Any]:
        """Return an exception as plain data: what Celery stores of it, and the details."""
        self._left -= 1
        kind, text = type(error), _text(error)
        own = self._plain(error.args)
        # A caller that reads no details gets at least the text, where it would get neither that nor the class.
        message = own if own or not text or _says(kind, text) else [text]
        details: Details = {"bases": [[base.__module__, base.__qualname__] for base in _bases(kind)]}
        if own != message:
            details["args"] = own
        made_of = self._made_of(error)
        if made_of not in (None, own):
            details["made_of"] = made_of
        if message != [text]:
            details["text"] = text
        attributes = {name: value for name, value in _attributes(error) if self._is_plain(value)}
        notes = [note for note in getattr(error, "__notes__", ()) if isinstance(note, str)]
        details.update((name, value) for name, value in (("attributes", attributes), ("notes", notes)) if value)
        if depth < _DEEPEST:
            details.update(self._related(error, depth + 1))
        found = validation.describe(error, self._is_plain)
        if found is not None:
            details[validation.KEY] = found
        return {"exc_type": kind.__qualname__, "exc_message": message, "exc_module": kind.__module__, KEY: details}

    def _related(self, error: BaseException, depth: int) -> Iterator[tuple[str, Any]]:
        cause, context = error.__cause__, error.__context__
        if cause is not None and self._left > 0:
            yield "cause", self.describe(cause, depth)
        elif context is not None and not error.__suppress_context__ and self._left > 0:
            yield "context", self.describe(context, depth)
        if isinstance(error, BaseExceptionGroup):
            yield "exceptions", [self.describe(member, depth) for member in error.exceptions if self._left > 0]

    def _plain(self, values: Iterable[Any]) -> list[Any]:
        return [value if self._is_plain(value) else _shown(value) for value in values]

    def _made_of(self, error: BaseException) -> list[Any] | None:
        """Return the arguments by which the exception itself says that it is made again, as for pickle.

        They are not always those that it has: OSError's `args` hide the name of the file.
        """
        if hasattr(error, TEXT):
            return None
        try:
            reduced: Any = error.__reduce__()
            make, arguments = reduced[:2]
        except Exception:  # noqa: BLE001  # the application's own code
            return None
        return list(arguments) if make is type(error) and all(map(self._is_plain, arguments)) else None


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # the application's own code
        return str(_shown(error))


def _says(kind: Any, text: str) -> bool:
    try:
        return str(kind()) == text
    except Exception:  # noqa: BLE001  # the application's own code
        return False


def _bases(kind: type) -> list[type]:
    """Return what a caller that has not the class itself may know it by, the nearest first."""
    common = (Exception, BaseException, object)
    return [base for base in inspect.getmro(kind)[1:] if base not in common][:_MOST_BASES]


def _attributes(error: BaseException) -> Iterator[tuple[str, Any]]:
    own: Mapping[str, Any] = getattr(error, "__dict__", {})
    members = {
        name: getattr(error, name, None)
        for base in type(error).__mro__
        for name, member in vars(base).items()
        if inspect.ismemberdescriptor(member) or inspect.isgetsetdescriptor(member)
    }
    hidden = {"args", TEXT, *(("exceptions", "message") if isinstance(error, BaseExceptionGroup) else ())}
    if type(error).__module__.startswith("celery."):
        hidden |= _ARGUMENTS
    for name, value in {**members, **own}.items():
        if not name.startswith("__") and name not in hidden and (name in own or value is not None):
            yield name, value
