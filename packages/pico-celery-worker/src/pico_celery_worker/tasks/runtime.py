"""Runtime: what pico-celery has made of one app."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

from celery import Celery
from pico_ioc import PicoContainer

from pico_celery_core import _pico_ioc as access
from pico_celery_worker.execution.execution import Executor


@dataclass(frozen=True, eq=False)
class Runtime:
    """The container that has registered its tasks with an app, and what runs them.

    Args:
        container: The container.
        executors: What runs each of its tasks.
    """

    container: PicoContainer
    executors: Sequence[Executor]

    def enforce_limits(self, *, soft: bool, hard: bool) -> None:
        """Say which time limits the tasks keep themselves, because the pool does not see to them.

        Args:
            soft: Whether they raise SoftTimeLimitExceeded at their soft limit.
            hard: Whether they end at their hard limit.
        """
        for executor in self.executors:
            executor.enforces_soft_limits = soft
            executor.enforces_hard_limits = hard


_runtimes: Final[WeakKeyDictionary[Celery, Runtime]] = WeakKeyDictionary()


def runtime_of(app: Celery) -> Runtime | None:
    """Return the runtime of an app, or None where no container has registered its tasks."""
    return _runtimes.get(_itself(app))


def set_runtime(app: Celery, runtime: Runtime) -> None:
    """Give an app its runtime. A newer container of the app replaces an older."""
    _runtimes[_itself(app)] = runtime


def _itself(app: Celery) -> Any:
    """Return the app behind the proxy of one whose provider is lazy: there is no weak reference to a proxy."""
    _ = app.main  # makes it
    return access.unwrap_proxy(app)
