"""The worker's result backend, which outlasts refusals: a task depends on nothing that is not its outcome.

Celery 5.7 stores `STARTED` before it calls a task. If the backend refuses that, the task is not run: it fails, that
cannot be stored either, and its message is acknowledged. What a backend counts as an error that passes are lost
connections at most, not that it may not write for now: a Redis that is full, or a replica until a failover ends.

Here a state that is not final is stored if it can be, and a final one is stored however long that takes. Until then
the task keeps its place in the pool and its message.
"""

import functools
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final

from celery import Celery, states
from celery._state import get_current_task
from celery.app.backends import by_url
from celery.backends.redis import RedisBackend
from celery.exceptions import BackendStoreError, Reject
from celery.utils.time import get_exponential_backoff_interval
from gevent import Timeout
from greenlet import getcurrent
from kombu.exceptions import EncodeError

from pico_celery_worker.consumer.attempts import (
    GLANCE,
    LONGEST_DELAY,
    attempt,
    attempt_with_connection,
    is_attempt,
)
from pico_celery_worker.consumer.redis_results import StoresTogether, can_store_together
from pico_celery_worker.loop.log_fields import log_fields
from pico_celery_worker.pools import in_cold_shutdown

logger = logging.getLogger(__name__)

# How often a backend has to refuse one result, and take another state of the same task each time in between, until the
# fault is taken for the result's: that it is too large, for instance.
_REFUSALS: Final = 3

# How often it is logged that a result still waits, in seconds.
_REMINDER: Final = 60.0

# Up to here redis-py shows the beginning of a command.
_REDIS_COMMAND: Final = "of pipeline caused error: "

# After so many the pause before an attempt is not doubled any more: it is the longest by then.
_MOST_DOUBLINGS: Final = 20

_AT_MOST_ONCE_MORE: Final = {"max_retries": 1, "interval_start": 0}


def outlast_refusals(app: Celery) -> None:
    """Let an app's result backend outlast refusals, whichever it is.

    Args:
        app: A worker's app. Its backend is made anew.
    """
    make, url = by_url(app.backend_cls or app.conf.result_backend, app.loader)
    backend = make(app=app, url=url)
    kind = type(backend)
    if not isinstance(backend, _Outlasting):
        # Celery has classes looked up by their names, of which clients ask.
        names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "url_of_app": backend.url}
        together = (StoresTogether,) if can_store_together(kind) else ()
        kind = type(kind.__name__, (_Outlasting, *together, kind), names)
        vars(app)["backend_cls"] = kind
    # One that was made before, for instance by an application that has sent something, would remain.
    # tests/unit/worker/consumer/test_results.py holds Celery to these names.
    vars(app)["_backend_cache"] = None
    app._backend = kind(app=app)  # noqa: SLF001


class _Outlasting:
    """Comes before one of Celery's result backends."""

    app: Any
    base_sleep_between_retries_ms: int
    max_sleep_between_retries_ms: int
    as_uri: Callable[[], str]
    connection_errors: tuple[type[Exception], ...]
    channel_errors: tuple[type[Exception], ...]
    on_backend_retryable_error: Callable[[Exception], object]

    url_of_app: str | None = None

    def __init__(self, *args: Any, url: str | None = None, **kwargs: Any) -> None:
        backend: Any = super()
        backend.__init__(*args, url=url or self.url_of_app, **kwargs)

    @property
    def retry_policy(self) -> Any:
        """What Celery's backends for Redis and RPC do when a connection is lost."""
        backend: Any = super()
        return {**backend.retry_policy, **_AT_MOST_ONCE_MORE} if is_attempt() else backend.retry_policy

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        """Tell whether Celery itself is to try something again."""
        backend: Any = super()
        return not is_attempt() and bool(backend.exception_safe_to_retry(exc))

    def store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        """Store a task's state and result: a final one as soon as that is possible, any other if it is now.

        Args:
            task_id: The task's id.
            result: Its result, or what goes with its state.
            state: Its state.
            traceback: Of its error.
            request: Of the task.
            **kwargs: What else the backend takes.

        Raises:
            EncodeError: If the result cannot be encoded.
            Reject: If the worker ends before the result can be stored.
            Exception: What the backend says of this result alone.
        """
        backend: Any = super()
        store = functools.partial(backend.store_result, task_id, result, state, traceback, request, **kwargs)
        if state in states.READY_STATES:
            probe = functools.partial(backend.store_result, task_id, None, states.STARTED, request=request)
            return self._persist(f"The result of task {task_id}", store, self._attempt, probe)
        try:
            with self._attempt(LONGEST_DELAY):
                return store()
        except EncodeError:
            raise
        except Exception as error:  # noqa: BLE001  # there is no end of what a backend may raise
            told = "The state %s of task %s cannot be stored, and is left out: %s"
            logger.warning(told, state, task_id, _said(error), extra=log_fields("state-not-stored", task_id=task_id))
            return result

    def on_chord_part_return(self, request: Any, state: str, result: Any, *args: Any, **kwargs: Any) -> Any:
        """Note that a task of a chord has ended; in Redis, where that may be repeated, as soon as it is possible."""
        backend: Any = super()
        note = functools.partial(backend.on_chord_part_return, request, state, result, *args, **kwargs)
        if not isinstance(self, RedisBackend):
            return note()
        passing = (*self.connection_errors, *self.channel_errors)
        return self._persist(f"Task {request.id}'s part of its chord", note, attempt_with_connection, passing=passing)

    def _attempt(self, longest: float = math.inf) -> AbstractContextManager[None]:
        # Those that are stored together need one connection, and wait for no other.
        return attempt() if isinstance(self, StoresTogether) else attempt_with_connection(longest)

    def _persist(
        self,
        what: str,
        store: functools.partial[Any],
        enter: Callable[[], AbstractContextManager[None]],
        probe: Callable[[], object] | None = None,
        passing: tuple[type[Exception], ...] = (Exception,),
    ) -> Any:
        """Try until something is stored.

        Args:
            what: What, for the log.
            store: Stores it: a method of the backend with its arguments.
            enter: Begins an attempt.
            probe: Stores something else of the same task, by which one sees whose fault it is.
            passing: The errors after which to try again.
        """
        refusals = 0
        reminder = 0.0
        refusal: Exception | None = None
        for number in itertools.count(1):
            try:
                if refusal is not None:
                    self._wait(number, refusal)
                with enter():
                    if probe is not None and refusal is not None:
                        before, refusals = refusals, 0
                        probe()
                        refusals = before + 1
                    return store()
            except Timeout:
                # The handler has ended, and with it its time limit.
                if in_cold_shutdown():
                    raise
            except (EncodeError, BackendStoreError, Reject):
                raise
            except passing as error:
                if refusals >= _REFUSALS:
                    raise
                if not in_cold_shutdown() and _is_consumer():
                    self._leave_to_a_thread(store, error)
                    return None
                if time.monotonic() > reminder:
                    reminder = time.monotonic() + _REMINDER
                    told = "%s cannot be stored in %s for now. It is tried until it is, and keeps its task waiting: %s"
                    logger.warning(told, what, self.as_uri(), _said(error), extra=log_fields("result-waits"))
                refusal = error
        raise AssertionError("there is no last attempt")

    def _wait(self, number: int, error: Exception) -> None:
        """Wait before the next attempt, for as long as the worker does not end."""
        try:
            self.on_backend_retryable_error(error)
        except Exception:
            logger.exception("The result backend cannot be prepared for another attempt")
        shortest, longest = self.base_sleep_between_retries_ms, self.max_sleep_between_retries_ms
        pause = get_exponential_backoff_interval(shortest, min(number, _MOST_DOUBLINGS), longest, full_jitter=True)
        until = time.monotonic() + pause / 1000
        while True:
            if in_cold_shutdown():
                # By this its message goes back to the broker, if it has not been acknowledged when it began.
                raise Reject(_said(error), requeue=True) from error
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, GLANCE))

    def _leave_to_a_thread(self, store: functools.partial[Any], error: Exception) -> None:
        """Let a thread go on trying, as the consumer has messages to take."""
        name = store.func.__name__

        def store_later() -> None:
            # Celery keeps a backend a thread, unless it is said to be safe.
            method = getattr(self.app.backend, name)
            try:
                method(*store.args, **store.keywords)
            except Exception:
                logger.exception("What the consumer has left to be stored cannot be stored")

        told = "The result backend %s refuses what the consumer stores, for now: %s"
        logger.warning(told, self.as_uri(), _said(error))
        threading.Thread(target=store_later, name="pico-celery-results", daemon=True).start()


def _said(error: Exception) -> str:
    """Return what a backend says of itself, without the beginning of what it was to store."""
    driver = getattr(error, "orig", None) or error  # SQLAlchemy shows the parameters of a statement
    return f"{type(driver).__name__}: {str(driver).rpartition(_REDIS_COMMAND)[2]}"


def _is_consumer() -> bool:
    """Tell whether this is neither a task nor one of a pool's threads or greenlets, but what takes messages."""
    is_first_greenlet = getcurrent().parent is None
    is_main_thread = threading.current_thread() is threading.main_thread()
    return is_first_greenlet and is_main_thread and get_current_task() is None
