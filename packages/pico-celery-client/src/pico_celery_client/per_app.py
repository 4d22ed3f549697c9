"""What each app has one of."""

import os
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from celery import Celery

_T = TypeVar("_T")


class PerApp(Generic[_T]):
    """One thing for each app, for as long as the app is there. A forked child makes its own.

    Args:
        make: Makes it for an app, which it must not keep.
    """

    def __init__(self, make: Callable[[Celery], _T]) -> None:
        self._make = make
        self._made: WeakKeyDictionary[Celery, _T] = WeakKeyDictionary()
        os.register_at_fork(after_in_child=self._made.clear)

    def of(self, app: Celery) -> _T:
        """Return an app's own."""
        # There is no weak reference to the container's proxy of an app whose provider is lazy.
        itself: Any = app.amqp.app
        made = self._made.get(itself)
        if made is None:
            made = self._made.setdefault(itself, self._make(itself))
        return made
