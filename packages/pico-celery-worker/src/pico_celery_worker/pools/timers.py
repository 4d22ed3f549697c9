"""The timer of the gevent pool, whose repeated calls can be ended.

In Celery 5.7 such a call goes on in another greenlet each time, and to cancel it ends only the first: each connection
that a worker loses leaves its checks behind, which open it again, or read what others wait for.
tests/unit/worker/pools/test_timers.py holds this to Celery's and kombu's own timers.
"""

import functools
from collections.abc import Callable
from typing import Any

from celery.concurrency import gevent as celery_gevent


class Timer(celery_gevent.Timer):  # type: ignore[misc]  # Celery has no types
    """Celery's timer with greenlets."""

    def call_repeatedly(
        self, secs: float, fun: Callable[..., Any], args: Any = (), kwargs: Any = None, priority: int = 0
    ) -> Any:
        """Call a function again and again.

        Args:
            secs: How often, in seconds.
            fun: What to call.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
            priority: Of no meaning here.

        Returns:
            An entry with a method `cancel`.
        """

        @functools.wraps(fun)
        def call_unless_cancelled(*args: Any, **kwargs: Any) -> Any:
            return None if entry.canceled else fun(*args, **kwargs)

        entry = super().call_repeatedly(secs, call_unless_cancelled, args, kwargs, priority).entry
        return entry

    def clear(self) -> None:
        """End all of them, also those that run."""
        for greenlet in list(self.queue):
            greenlet.entry.cancel()
            greenlet.kill(block=False)
        super().clear()
