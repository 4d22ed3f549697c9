"""What Celery's own pools need on top, one file for each that needs it."""

from typing import Any, Final

from celery.worker import state

GREENLET_POOLS: Final = frozenset({"gevent", "eventlet"})
"""The names of the pools whose tasks are greenlets of one thread."""


def pool_name(pool_cls: Any) -> str:
    """Return which of Celery's pools a class is, or derives from: "gevent", "prefork", "thread" and so on."""
    modules = (base.__module__ for base in pool_cls.__mro__)
    return next((m.rpartition(".")[2] for m in modules if m.startswith("celery.concurrency.")), "")


def in_cold_shutdown() -> bool:
    """Tell whether the worker has begun a cold shutdown: then no task is to begin any more."""
    # The state holds an exit code, which may be 0.
    return state.should_terminate is not None and state.should_terminate is not False


def is_shutting_down() -> bool:
    """Tell whether the worker has begun a shutdown, warm or cold: what has not begun goes back to the broker."""
    return (state.should_stop is not None and state.should_stop is not False) or in_cold_shutdown()
