"""What the pools of greenlets have in common: a killed task is a terminated one."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

from greenlet import getcurrent

from pico_celery_worker.pools import is_stopping, termination_timeout, unless_stopping
from pico_celery_worker.pools.outcomes import contained, told, told_when_killed


class KilledAreTerminated:
    """Comes before one of Celery's pools of greenlets."""

    app: Any
    _pool_map: Any

    @cached_property
    def terminate_timeout(self) -> float:
        """How long terminated tasks may take to end, in seconds."""
        return termination_timeout(self.app)

    def on_apply(self, target: Callable[..., Any], args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Spawn a greenlet that runs a task, unless tasks are no longer to run: then its message is left to others."""
        if is_stopping():
            return None
        options["callback"] = told(options["callback"], options["error_callback"])
        options["accept_callback"] = unless_stopping(options.get("accept_callback"))
        apply: Any = super()
        return apply.on_apply(told_when_killed(contained(target)), args, kwargs, **options)

    def terminate_job(self, pid: int, signal: Any = None) -> None:
        """Kill one task.

        Args:
            pid: What the pool calls the task's greenlet.
            signal: Of no meaning here.
        """
        greenlet = (self._pool_map or {}).get(pid)
        if greenlet is not None and greenlet is getcurrent():
            # Its request was revoked before it was accepted, and still has to tell everybody, for which it waits.
            greenlet.is_revoked = True
        else:
            kill: Any = super()
            kill.terminate_job(pid, signal)

    def _other(self, pid: int) -> Any:
        """Return a task's greenlet, unless it has ended or is the one that asks."""
        greenlet = (self._pool_map or {}).get(pid)
        return None if greenlet is getcurrent() else greenlet
