"""What a result backend has stored of an exception, as an exception again.

No module is imported for it, and nothing is called but the exception's class: who can write to the result backend must
not be able to run code here.
"""

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from celery.exceptions import SecurityError

from pico_celery_core.failures import validation
from pico_celery_core.failures.description import KEY, TEXT, Describer

_DEEPEST: Final = 50

_Make = Callable[[Any], BaseException]


class WorkerTraceback(Exception):  # noqa: N818  # it is shown, not raised
    """Where a task failed in its worker: the last cause of an exception that a caller gets.

    Args:
        text: The traceback, as the worker has written it.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


def show_traceback(error: BaseException, text: str) -> None:
    """Add the worker's traceback to an exception, where Python shows it: as the cause of its first cause."""
    seen = {id(error)}
    while True:
        before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if isinstance(before, WorkerTraceback):
            return
        if before is None or id(before) in seen:
            error.__cause__ = WorkerTraceback(text)
            return
        seen.add(id(before))
        error = before


def restore(data: Mapping[str, Any], depth: int = 0) -> BaseException:
    """Make the exception that was stored.

    It has the class, text, arguments, attributes, notes, causes and members of the one that was raised, as far as the
    result backend could store them. Where this process has not loaded its class, it is of a class of the same name,
    derived from the nearest base class that is loaded.

    Args:
        data: What Celery stores, with or without the details of `description`.
        depth: How many exceptions this is a part of.

    Raises:
        SecurityError: If what is stored as an exception's class is not one.
        Exception: If it was not stored by Celery or `description`.
    """
    if depth > _DEEPEST:
        raise ValueError("the exceptions are nested too deeply")
    details: Mapping[str, Any] = data.get(KEY) or {}
    error = _Restoration(data, details, depth).make()
    for note in details.get("notes", ()):
        error.add_note(note)
    if "cause" in details:
        error.__cause__ = restore(details["cause"], depth + 1)
    elif "context" in details:
        error.__context__ = restore(details["context"], depth + 1)
    return error


class _Restoration:
    """One exception that is about to be made."""

    def __init__(self, data: Mapping[str, Any], details: Mapping[str, Any], depth: int) -> None:
        message = data.get("exc_message", ())
        self._message = list(message) if isinstance(message, (list, tuple)) else [message]
        self._data = data
        self._details = details
        self._attributes: Mapping[str, Any] = details.get("attributes", {})
        self._own: list[Any] = details.get("args", self._message)
        self._made_of = tuple(details.get("made_of", self._own))
        self._members = [restore(member, depth + 1) for member in details.get("exceptions", ())]
        if self._members:
            self._made_of = (*self._made_of[:1], self._members)
        self._text: str | None = details.get("text", self._message[0] if self._message and details else None)

    def make(self) -> BaseException:
        module, name = self._data.get("exc_module"), self._data["exc_type"]
        cls = _loaded(module, name)
        makers: tuple[_Make, ...] = (self._construct, self._allocate)
        if validation.KEY in self._details:
            makers = (self._validate, *makers)
        kinds = [] if cls is None else [cls, _worded(cls)]
        bases = tuple(_bases(self._details.get("bases", ())))
        for kind in (*kinds, _stand_in(module, name, bases), _stand_in(module, name, ())):
            for make in makers:
                error = self._attempt(make, kind)
                if error is not None:
                    return error
        raise TypeError(f"{module}.{name} cannot be made")

    def _attempt(self, make: _Make, kind: Any) -> BaseException | None:
        """Return what is made of a class, if it says what the original says."""
        if kind is None:
            return None
        try:
            error = make(kind)
            for name, value in self._attributes.items():
                self._set(error, name, value)
            if hasattr(kind, TEXT):
                shown = self._text if self._text is not None else ", ".join(map(str, self._message))
                setattr(error, TEXT, shown)
            said = str(error)
        except Exception:  # noqa: BLE001  # the application's own code, called with what it may not expect
            return None
        return error if self._text is None or said == self._text else None

    @staticmethod
    def _set(error: BaseException, name: str, value: Any) -> None:
        if name.startswith("__") or getattr(error, name, None) == value:
            return
        try:
            object.__setattr__(error, name, value)
        except (AttributeError, TypeError):
            return  # it is read only, and what it says is compared

    def _construct(self, kind: Any) -> BaseException:
        error: BaseException = kind(*self._made_of)
        if self._details and not self._members and list(error.args) != self._own:
            raise TypeError("it takes other arguments than it keeps")
        return error

    def _allocate(self, kind: Any) -> BaseException:
        """Make one without its `__init__`, which may take other arguments than it passes on."""
        error: BaseException = kind.__new__(kind, *self._made_of)
        if not self._members:
            error.args = tuple(self._own)
        return error

    def _validate(self, kind: Any) -> BaseException:
        error = validation.make(kind, self._details[validation.KEY])
        error.args = tuple(self._own)
        return error


def _loaded(module: Any, name: str) -> Any:
    """Return a class that this process has, or None."""
    found: Any = sys.modules.get(module) if isinstance(module, str) else None
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not None and not (isinstance(found, type) and issubclass(found, BaseException)):
        raise SecurityError(f"Expected an exception class, got {module}.{name}")
    return found


def _bases(names: Any) -> Iterator[type[Exception]]:
    """Yield the loaded of some classes, without those from which another of them derives anyway."""
    found: list[type[Exception]] = []
    for module, name in names:
        cls = _loaded(module, name)
        if cls is not None and issubclass(cls, Exception) and not any(issubclass(other, cls) for other in found):
            found.append(cls)
            yield cls


@functools.lru_cache(maxsize=256)
def _stand_in(module: str | None, name: str, bases: tuple[type[Exception], ...]) -> Any:
    """Return a class for one that this process has not."""
    namespace = {"__module__": module or __name__, "__qualname__": name, **_WORDING}
    for candidates in (bases, bases[:1], (Exception,)):
        made = _derived(name.rpartition(".")[2], candidates or (Exception,), namespace)
        if made is not None:
            return made
    return None


@functools.lru_cache(maxsize=256)
def _worded(cls: type[BaseException]) -> Any:
    """Return a subclass whose text is given: the class itself would need what cannot be sent to make its text."""
    namespace = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, **_WORDING}
    return _derived(cls.__name__, (cls,), namespace)


def _derived(name: str, bases: tuple[type, ...], namespace: Mapping[str, Any]) -> Any:
    try:
        return type(name, bases, dict(namespace))
    except Exception:  # noqa: BLE001  # they do not go together, or the application's own refuses it
        return None


def _say(error: Any) -> str:
    text: str = getattr(error, TEXT)
    return text


def _reduce(error: BaseException) -> tuple[Any, ...]:
    return restore, (Describer(lambda _: True).describe(error),)


_WORDING: Final = {"__str__": _say, TEXT: "", "__reduce__": _reduce}
