"""Sensitive: marks arguments that show in no log, event or monitor."""

import builtins
import inspect
import sys
import typing
from collections.abc import Iterator
from typing import Any, Final

from pico_celery_core.contract.signatures import evaluated

MASK: Final = "***"


class Sensitive:
    """Marks a stub's argument as one that must not be shown: passwords, tokens, addresses.

    The worker gets the argument as any other. What Celery shows of a task's arguments, in logs, in events and in what
    reads them, is `***`, for the whole argument if one of its fields is marked. The message itself is not encrypted.

    Example:
        >>> from typing import Annotated
        >>> from pico_celery import CeleryClient, Sensitive, celery, send_task
        >>> @celery
        ... class Accounts(CeleryClient):
        ...     @send_task("accounts.open")
        ...     def open(self, user: str, password: Annotated[str, Sensitive]) -> int: ...
    """


def is_sensitive(annotation: Any) -> bool:
    """Tell whether an annotation carries the marker, as a class or as an instance, anywhere in it.

    The fields of a class count: those of a `TypedDict`, a dataclass or a model. An annotation that could not be
    evaluated counts if the marker's name is in it: rather too much is masked.
    """
    return _is_marked(annotation, set())


def _is_marked(annotation: Any, seen: set[Any]) -> bool:
    if isinstance(annotation, typing.ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        return Sensitive.__name__ in annotation
    marks = getattr(annotation, "__metadata__", ())
    if any(mark is Sensitive or isinstance(mark, Sensitive) for mark in marks):
        return True
    return any(_is_marked(part, seen) for part in _parts(annotation, seen))


def _parts(annotation: Any, seen: set[Any]) -> Iterator[Any]:
    origin = typing.get_origin(annotation)
    if origin is not None:
        yield from (origin, *typing.get_args(annotation))
    elif isinstance(annotation, typing.NewType):
        yield annotation.__supertype__
    elif type(annotation).__name__ == "TypeAliasType" and annotation not in seen:  # of Python 3.12
        seen.add(annotation)  # it may have itself in it
        yield annotation.__value__
    elif inspect.isclass(annotation) and annotation not in seen:
        seen.add(annotation)
        yield from _fields(annotation)


def _fields(cls: type) -> Iterator[Any]:
    for base in cls.__mro__:
        names = vars(sys.modules.get(base.__module__, builtins))
        for annotation in inspect.get_annotations(base).values():
            yield evaluated(annotation, {**vars(base), **vars(builtins), **names})
