"""Tracebacks that show where an error comes from, and no argument.

What reports errors, such as Sentry, sends the local variables of each frame along. Between a call and the code that it
is for, those are the arguments.
"""

from collections.abc import Iterator
from types import TracebackType
from typing import Final

# Whose frames say nothing about what a handler does.
_PLUMBING: Final = ("celery", "pico_celery_core", "pico_celery_worker", "pico_ioc")


def begin_in_handler(error: BaseException) -> None:
    """Let the traceback of an error begin in the handler that raised it, and so those of its causes.

    Where no handler had a part in it, the last frame is kept.

    Args:
        error: The error, which is changed. A plain `raise` in its `except` clause adds no frame to it.
    """
    for link in _chain(error):
        link.__traceback__ = _without_plumbing(link.__traceback__)


def drop_frames(error: BaseException) -> None:
    """Let an error and its causes have no traceback.

    Args:
        error: The error, which is changed. A plain `raise` in its `except` clause adds no frame to it.
    """
    for link in _chain(error):
        link.__traceback__ = None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        link = pending.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            pending += [link.__cause__, link.__context__]
            yield link


def _without_plumbing(traceback: TracebackType | None) -> TracebackType | None:
    last = None
    while traceback is not None and _package(traceback) in _PLUMBING:
        last, traceback = traceback, traceback.tb_next
    if traceback is None and last is not None and "args" not in last.tb_frame.f_code.co_varnames:
        return last
    return traceback


def _package(traceback: TracebackType) -> str:
    return str(traceback.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
