"""What Celery's own pools need on top, one file for each that needs it."""

from collections.abc import Callable
from typing import Any

from celery.worker import state
from greenlet import GreenletExit

from pico_celery_core.settings import seconds


def pool_name(pool_cls: Any) -> str:
    """Return which of Celery's pools a class is, or derives from: "gevent", "prefork", "thread" and so on."""
    modules = (base.__module__ for base in pool_cls.__mro__)
    return next((m.rpartition(".")[2] for m in modules if m.startswith("celery.concurrency.")), "")


def termination_timeout(app: Any) -> float:
    """Return for how long to wait for terminated tasks to end, in seconds.

    Args:
        app: The worker's app, which says how long they may take to unwind and to clean up.
    """
    return seconds(app, "pico_cancel_timeout") + seconds(app, "pico_cleanup_timeout")


def is_ending() -> bool:
    """Tell whether the worker has begun to shut down cold: then nothing is to begin any more."""
    return _is_set(state.should_terminate)


def is_stopping() -> bool:
    """Tell whether the worker has begun to shut down, warm or cold: what has not begun goes back to the broker."""
    return _is_set(state.should_stop) or is_ending()


def unless_stopping(accept: Callable[..., Any] | None) -> Callable[..., Any]:
    """Return what accepts a task that is about to begin, after it has waited for its turn, or ends it there."""

    def accept_or_end(*args: Any, **kwargs: Any) -> Any:
        if is_stopping():
            raise GreenletExit
        return accept(*args, **kwargs) if accept is not None else None

    return accept_or_end


def _is_set(exit_code: Any) -> bool:
    return exit_code is not None and exit_code is not False  # it may be 0
