"""What a worker shows of sensitive arguments where Celery 5.7 goes by no header: nothing.

In what it logs of messages that no task takes, which are shown whole, and in the debug log of its pools.
"""

import functools
import logging
import re
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from celery import Celery
from kombu.exceptions import DecodeError

from pico_celery_core.sensitive import MASK
from pico_celery_core.tracebacks import drop_frames
from pico_celery_worker.tasks.masking import HIDDEN, is_masked
from pico_celery_worker.tasks.task import AsyncTask

# How Celery's pools show what they are given: the name and the id of a task, and then its message.
_NAME_AND_ID: Final = re.compile(r"\('([^']*)', '([^']*)'")


_LONGEST_BODY: Final = 1024


class UntakenMessages:
    """What may be shown of messages that no task takes.

    Nothing of their arguments, if their sender masks some, or if they may be for a task whose handler does: where
    nobody knows for which task they are, one such task is enough.

    Args:
        app: The worker's app.
    """

    def __init__(self, app: Celery) -> None:
        masks = {name: bool(task.mask) for name, task in app.tasks.items() if isinstance(task, AsyncTask)}
        self._open = {name for name in app.tasks if not masks.get(name)}
        self._has_masks = any(masks.values())

    def are_shown(self, message: Any) -> bool:
        """Tell whether the arguments of a message may be shown."""
        if is_masked(message.headers):
            return False
        return not self._has_masks or _task_of(message) in self._open

    def hidden(self, show: Callable[..., Any]) -> Callable[..., Any]:
        """Return what does as a consumer's handler of such messages, which logs their bodies.

        Args:
            show: Takes a body, its message, and more.
        """

        @functools.wraps(show)
        def handle(body: Any, message: Any, *args: Any) -> Any:
            if self.are_shown(message):
                # Celery shows a kilobyte of it, for which it looks at all that it is given.
                return show((message.body or b"")[:_LONGEST_BODY] if body is None else body, message, *args)
            with _without_arguments(message, *args):
                return show(MASK, message, *args)

        return handle

    def hidden_undecoded(self, show: Callable[..., Any]) -> Callable[..., Any]:
        """Return what does as a consumer's handler of messages that cannot be decoded.

        Args:
            show: Takes a message and the error, either of which shows the body.
        """

        @functools.wraps(show)
        def handle(message: Any, error: Any) -> Any:
            if self.are_shown(message):
                return show(message, error)
            with _without_arguments(message, error):
                body, message.body = message.body, MASK
                try:
                    return show(message, DecodeError(str(error)))
                finally:
                    message.body = body

        return handle


def _task_of(message: Any) -> str:
    """Return for which task a message is, if it says so in a way that can be understood."""
    name: Any = None
    if isinstance(message.headers, Mapping):
        name = message.headers.get("task")
        if name is None and not message.errors:
            try:
                name = message.payload["task"]
            except Exception:  # noqa: BLE001  # whatever it is, nobody can read it
                name = None
    return name if isinstance(name, str) else ""


@contextmanager
def _without_arguments(message: Any, *given: Any) -> Generator[None]:
    # What is logged along with it has the body in its frames, and so may what it comes of have it in its text.
    for error in (sys.exc_info()[1], *given):
        if isinstance(error, Exception):
            drop_frames(error)
            error.__cause__, error.__suppress_context__ = None, True
    headers = message.headers
    if isinstance(headers, Mapping):
        message.headers = {**headers, **{name: text for name, text in HIDDEN.items() if name in headers}}
    try:
        yield
    finally:
        message.headers = headers


class PoolLogFilter(logging.Filter):
    """Shortens what Celery's pools log of a task at the level DEBUG, the whole message, to its name and id."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        if str(record.msg).startswith("TaskPool: Apply"):
            found = _NAME_AND_ID.match(str(record.args[1])) if isinstance(record.args, tuple) else None
            record.msg, record.args = "TaskPool: Apply task %s", ("{}[{}]".format(*found.groups()) if found else "",)
        return True


def shorten_pool_log() -> None:
    """Install the filter, once."""
    logger = logging.getLogger("celery.pool")
    if not any(isinstance(present, PoolLogFilter) for present in logger.filters):
        logger.addFilter(PoolLogFilter())
