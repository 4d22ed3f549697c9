"""What a worker does with the messages it receives, in this process."""

import asyncio
import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from billiard.einfo import ExceptionInfo
from celery import Celery
from celery.exceptions import NotRegistered, TaskRevokedError, WorkerLostError
from celery.worker import state
from kombu.message import Message
from kombu.serialization import prepare_accept_content
from kombu.utils.imports import symbol_by_name

from pico_celery_core.suggestions import near_miss
from pico_celery_core.testing.memory import MemoryBackend
from pico_celery_worker.consumer.unacked import was_redelivered
from pico_celery_worker.tasks.task import AsyncTask

# Part of kombu has types, and these have not.
_accepted: Any = prepare_accept_content
_class_named: Any = symbol_by_name

logger = logging.getLogger(__name__)


class InProcessPool:
    """Executes each message at once, in a thread of its own that waits as one of a worker's pool does.

    Celery's own request and tracer do it. The sender's thread is not used, so that sender and handler cannot
    wait for each other; nor are its context variables, which a worker would not have either.

    Args:
        app: The app whose tasks are executed.
        is_delivered_twice: Whether each message is delivered again when it has been executed.
    """

    def __init__(self, app: Celery, *, is_delivered_twice: bool = False) -> None:
        # In this thread: pytest rewrites what it imports of a plugin, and Python before 3.11.8 cannot do so in two.
        _class_named(AsyncTask.Request)
        self._is_delivered_twice = is_delivered_twice
        self._app = app
        self._accept = _accepted(app.conf.accept_content)
        self._running: dict[threading.Thread, str] = {}
        self._changed = threading.Condition()
        self._closed = False

    def deliver(self, message: Message) -> None:
        """Execute a message, soon."""
        task = "{task}[{id}]".format(**message.headers)
        with self._changed:
            if self._closed:
                logger.warning("Task %s was sent after its TaskRunner had ended, and is not run", task)
                return
            # A retry comes before its predecessor has stored that there is one.
            predecessors = [thread for thread, running in self._running.items() if running == task]
            thread = threading.Thread(
                target=self._process, args=(message, predecessors), name=f"pico-celery task {task}", daemon=True
            )
            self._running[thread] = task
            thread.start()

    def wait(self, timeout: float) -> list[str]:
        """Wait until every task has ended, those included that tasks have sent.

        Args:
            timeout: How long to wait, in seconds.

        Returns:
            What still runs then.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._running, timeout)
            return list(self._running.values())

    def close(self) -> None:
        """Execute nothing more."""
        with self._changed:
            self._closed = True

    def _process(self, message: Message, predecessors: Sequence[threading.Thread]) -> None:
        for thread in predecessors:
            thread.join()
        # Celery keeps the current app by thread; a worker's is always its own.
        self._app.set_current()
        try:
            self._execute(message)
            if self._is_delivered_twice and not was_redelivered(message):
                message.delivery_info["redelivered"] = True
                self._execute(message)
        except Exception as error:
            logger.exception("Executing the message of task %s failed", message.headers["task"])
            self._fail(message, error)
        finally:
            with self._changed:
                del self._running[threading.current_thread()]
                self._changed.notify_all()

    def _execute(self, message: Message) -> None:
        name = message.headers["task"]
        task = self._app.tasks.get(name)
        if task is None:
            known = near_miss(name, self._app.tasks)
            hint = f"did you mean {known!r}?" if known else "is its class a component, and its module named in init()?"
            logger.error("The container has no handler for task %r: %s", name, hint)
            self._fail(message, NotRegistered(name))
            return
        message.accept = self._accept
        request_class = _class_named(task.Request)
        try:
            request = request_class(
                message, app=self._app, task=task, on_reject=functools.partial(self._reject, message)
            )
        except Exception as error:
            # A worker logs this and drops the message; here, somebody would wait for the result for nothing.
            logger.exception("The message of task %r cannot be read", name)
            self._fail(message, error)
            return
        try:
            request.execute_using_pool(_Here(self._app))
        except TaskRevokedError:
            logger.info("Task %s[%s] has expired", name, request.id)
        except asyncio.CancelledError:
            state.task_ready(request)
            if self._is_delivered_twice and not was_redelivered(message):
                return  # it ends with its second delivery
            self._app.backend.mark_as_revoked(request.id, "terminated")

    def _reject(self, message: Message, _logger: Any, _errors: Any, requeue: bool) -> None:
        if requeue:
            message.delivery_info["redelivered"] = True
            self.deliver(message)

    def _fail(self, message: Message, error: Exception) -> None:
        self._app.backend.mark_as_failure(message.headers["id"], error)


class _Here:
    """Stands where a request expects the worker's pool: the thread that calls it is the pool's."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def apply_async(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...],
        accept_callback: Callable[..., Any],
        callback: Callable[..., Any],
        error_callback: Callable[..., Any],
        **_limits: Any,
    ) -> None:
        """Trace a task; its time limits are kept where its coroutine runs."""
        accept_callback(os.getpid(), time.monotonic())
        try:
            outcome = target(*args, app=self._app)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  # SystemExit, for instance, which would end a worker's process
            lost = WorkerLostError(repr(error))
            error_callback(ExceptionInfo((type(lost), lost, error.__traceback__)))
        else:
            callback(outcome)


class Results(MemoryBackend):
    """Results in memory, which a coroutine of a task cannot wait for by blocking the loop that is to make them.

    Args:
        app: Whose settings say how to encode.
        loop: The loop that the tasks run on.
    """

    def __init__(self, app: Celery, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(app)
        self._loop = loop

    def wait_for(self, task_id: str, *args: Any, **kwargs: Any) -> Any:
        """Wait until a task has come to its end, and return what is known of it.

        Raises:
            RuntimeError: If a coroutine on the loop of the tasks calls it.
        """
        if asyncio._get_running_loop() is self._loop:  # noqa: SLF001
            raise RuntimeError(
                f"A task waits for the result of task {task_id} with get(), which holds up the event loop that both "
                "need. Await the result instead."
            )
        return super().wait_for(task_id, *args, **kwargs)
