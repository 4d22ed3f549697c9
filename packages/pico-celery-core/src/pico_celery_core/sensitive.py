"""Sensitive: marks arguments that show in no log, event or monitor."""

import typing
from typing import Any, Final

MASK: Final = "***"


class Sensitive:
    """Marks a stub's argument as one that must not be shown: passwords, tokens, addresses.

    The worker gets the argument as any other. What Celery shows of a task's arguments, in logs, in events and in what
    reads them, is `***`. The message itself is not encrypted.

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

    An annotation that could not be evaluated counts if the marker's name is in it: rather too much is masked.
    """
    if isinstance(annotation, str):
        return Sensitive.__name__ in annotation
    if type(annotation).__name__ == "TypeAliasType":  # of Python 3.12
        return is_sensitive(annotation.__value__)
    marks = getattr(annotation, "__metadata__", ())
    if any(mark is Sensitive or isinstance(mark, Sensitive) for mark in marks):
        return True
    return any(map(is_sensitive, typing.get_args(annotation)))
