"""One attempt to reach the result backend: with a connection, and without Celery trying again by itself."""

import functools
import math
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from pico_celery_worker.consumer.descriptors import most_connections
from pico_celery_worker.pools import in_cold_shutdown

LONGEST_DELAY: Final = 5.0
"""For how long a state that is not final may keep a task from going on, until it is sent, in seconds."""

GLANCE: Final = 0.5
"""How often the end of the worker is looked for, in seconds."""

_attempting: ContextVar[bool] = ContextVar("attempting", default=False)
_has_connection: ContextVar[bool] = ContextVar("has_connection", default=False)


def is_attempt() -> bool:
    """Tell whether one attempt is being made, after which nothing is to be tried again by Celery itself."""
    return _attempting.get()


@contextmanager
def attempt() -> Generator[None]:
    """Keep Celery from trying again by itself within the block."""
    token = _attempting.set(True)
    try:
        yield
    finally:
        _attempting.reset(token)


@contextmanager
def attempt_with_connection(longest: float = math.inf) -> Generator[None]:
    """Wait until a connection may be used, and keep Celery from trying again by itself within the block.

    Args:
        longest: How long to wait, in seconds.

    Raises:
        TimeoutError: If that is not enough, or the worker ends.
    """
    if _has_connection.get():
        yield  # a part of what has a connection
        return
    gate, until = _gate(), time.monotonic() + longest
    while not gate.acquire(timeout=min(longest, GLANCE)):
        if in_cold_shutdown() or time.monotonic() > until:
            raise TimeoutError("All connections to the result backend are in use.")
    token = _has_connection.set(True)
    try:
        with attempt():
            yield
    finally:
        _has_connection.reset(token)
        gate.release()


@functools.cache
def _gate() -> threading.BoundedSemaphore:
    # Made when it is first needed: by then the worker's greenlets have patched what it consists of.
    return threading.BoundedSemaphore(most_connections())
