"""Gives each greenlet a running loop and async generator hooks of its own.

Python keeps both for each thread. Greenlets share a thread, so one that is switched out in the middle of a loop's step,
by a patched lock, socket or `Thread.start()`, would leave them to all others: these would seem to run inside a loop
that is not theirs, and `asyncio.run` in one of them would close the async generators of the other's loop
(https://github.com/gevent/gevent/issues/2213). Here they are exchanged at each switch, by greenlet's trace function.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakKeyDictionary, WeakSet

import greenlet

_NO_HOOKS: Final = (None, None)
_NOTHING: Final[tuple[Any, Any]] = (None, _NO_HOOKS)

# What is set aside for greenlets that are switched out within a running loop.
_set_aside: Final[WeakKeyDictionary[Any, tuple[Any, Any]]] = WeakKeyDictionary()

# The main greenlets of the threads that have the trace function.
_traced: Final[WeakSet[Any]] = WeakSet()


class _Exchange:
    """The trace function of one thread.

    Args:
        previous: The trace function that was there before, called as well.
    """

    def __init__(self, previous: Callable[..., Any] | None) -> None:
        self.previous = previous

    def __call__(
        self,
        event: str,
        greenlets: tuple[Any, Any],
        get_loop: Callable[[], Any] = asyncio._get_running_loop,  # noqa: SLF001  # for those who make loops
        get_hooks: Callable[[], Any] = sys.get_asyncgen_hooks,
    ) -> None:
        left, entered = greenlets
        loop, hooks = get_loop(), get_hooks()
        has_state = loop is not None or hooks != _NO_HOOKS
        if has_state:
            _set_aside[left] = loop, hooks
        if has_state or entered in _set_aside:
            loop, hooks = _set_aside.pop(entered, _NOTHING)
            asyncio._set_running_loop(loop)  # noqa: SLF001
            sys.set_asyncgen_hooks(*hooks)
        if self.previous is not None:
            self.previous(event, greenlets)


def keep_apart() -> None:
    """Keep the loops and hooks of this thread's greenlets apart from now on. May be called again."""
    main = greenlet.getcurrent()
    while main.parent is not None:
        main = main.parent
    previous = greenlet.gettrace()
    # Another tool may have put its own trace function around this one, which must not run twice at a switch.
    if previous is None or main not in _traced:
        _traced.add(main)
        greenlet.settrace(_Exchange(previous))
