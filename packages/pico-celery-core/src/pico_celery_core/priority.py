"""The order of interceptors, around sendings and around executions alike."""

from collections.abc import Iterable
from typing import TypeVar

_T = TypeVar("_T")


def by_priority(interceptors: Iterable[_T]) -> tuple[_T, ...]:
    """Return interceptors in their order, the outermost first: those with a lower `priority`, which is 0 by default."""
    return tuple(sorted(interceptors, key=lambda interceptor: getattr(interceptor, "priority", 0)))
