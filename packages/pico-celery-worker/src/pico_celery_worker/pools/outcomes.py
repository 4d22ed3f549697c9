"""What becomes of a task in a greenlet, told to its request whatever it is.

A pool of processes tells a request of every failure. Celery 5.7's gevent pool knows only what the tracer returns: an
exception that leaves the tracer ends the greenlet, and what is no Exception is told in a way that the request does not
understand. Either way nobody hears of the task again, and its message is neither acknowledged nor rejected.
"""

import logging
from collections.abc import Callable
from typing import Any

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from billiard.exceptions import Terminated
from greenlet import GreenletExit, getcurrent

logger = logging.getLogger(__name__)


def contained(target: Callable[..., Any]) -> Callable[..., Any]:
    """Return what returns the exceptions of a tracer, as `ExceptionInfo`, instead of raising them."""

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return target(*args, **kwargs)
        except Exception:
            logger.exception("A task failed outside of its handler")
            return ExceptionInfo()

    return call


def told_when_killed(target: Callable[..., Any]) -> Callable[..., Any]:
    """Return what tells a killed greenlet's task as a terminated one, as from a process.

    A greenlet that is to end as soon as it would run the task has `is_revoked`.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            _end_if_revoked()
            return target(*args, **kwargs)
        except GreenletExit as killed:
            return terminated(killed)

    return call


def _end_if_revoked() -> None:
    if getattr(getcurrent(), "is_revoked", False):
        raise GreenletExit


def terminated(error: BaseException) -> tuple[bool, Any, Any]:
    """Return what a tracer would say of a task whose process was terminated.

    Args:
        error: How it ended.
    """
    return True, ExceptionInfo((Terminated, Terminated(repr(error)), error.__traceback__)), None


def told(callback: Callable[[Any], Any], error_callback: Callable[[ExceptionInfo], Any]) -> Callable[[Any], None]:
    """Return what tells a request of an outcome.

    Args:
        callback: Takes what a tracer returns.
        error_callback: Takes what has ended a tracer.
    """

    def tell(outcome: Any) -> None:
        try:
            if isinstance(outcome, ExceptionInfo):
                error_callback(_bearable(outcome))
                return
            failed, value, runtime = outcome
            callback((failed, _bearable(value) if failed else value, runtime))
        except Exception:
            logger.exception("What became of a task could not be told")

    return tell


def raised(info: Any) -> BaseException:
    """Return the exception that was raised, which billiard puts into another one."""
    exception: Any = info.exception
    original: BaseException = exception.exc if isinstance(exception, ExceptionWithTraceback) else exception
    return original


def _bearable(info: Any) -> Any:
    # Celery would raise a MemoryError again, for the pool's process, which here is everybody's.
    if isinstance(raised(info), MemoryError):
        info.exception = RuntimeError(repr(raised(info)))
    return info
