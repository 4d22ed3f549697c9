"""TaskRunner: a worker within the test."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Concatenate, Final, Literal, ParamSpec, Self, TypeVar

from celery import Celery
from pico_ioc import PicoContainer

from pico_celery_core.errors import DeclarationError, PicoCeleryError
from pico_celery_core.metadata import task_spec
from pico_celery_core.testing.memory import Outbox, keep_in_memory
from pico_celery_core.timeouts import Timeouts
from pico_celery_worker.container.shutdown import close, refuse_closed
from pico_celery_worker.loop import close_runner, current_runner
from pico_celery_worker.loop.base import cancel_all
from pico_celery_worker.tasks.models import refuse_unresolved
from pico_celery_worker.tasks.runtime import Runtime, runtime_of
from pico_celery_worker.testing.deliveries import Interruption
from pico_celery_worker.testing.execution import InProcessPool, Results

_P = ParamSpec("_P")
_R = TypeVar("_R")

_running: Final[set["TaskRunner"]] = set()
_lock: Final = threading.Lock()

# How often to look for tasks that have begun after the others were cancelled, in seconds.
_GLANCE: Final = 0.05


class TasksStillRunError(PicoCeleryError, TimeoutError):
    """Tasks have not ended in time."""

    tasks: str
    timeout: float
    template = (
        "After {timeout:g} s there still run: {tasks}. What do they wait for? "
        "They have an event loop of their own, so nothing that belongs to the test's loop can wake them."
    )


class TaskRunner:
    """Runs a container's tasks within the test, as a worker would, without a broker.

    For as long as it is entered, what the container's Celery app sends is executed: encoded and decoded, by Celery's
    own tracer, on an event loop of its own, in a task scope that is cleaned up. Results and errors are those that a
    result backend would return. A task's own messages (retries, links, chains, groups, chords, what it sends by a
    client) are executed as well.

    Every message is executed at once, whatever its queue, priority, `countdown` and `eta`: a retry does not wait.
    Remote control, such as `result.revoke()`, has no effect, and neither have rate limits and settings of the worker's
    process and pool.

    It is a context manager, and an asynchronous one for use in `async def` tests. In the end it waits for tasks that
    still run, and closes the container as a worker that stops does: make both for one test.

    Args:
        container: A container with handlers, and `pico_celery` among its modules.
        timeout: How long `run`, `join` and the end wait for tasks, in seconds.
        deliveries: "twice" to deliver each message again, with the same id, when it has been executed. `run` may return
            before that: the end of the runner waits for it.
        interrupt_at: In the first of two deliveries, the handler is cancelled where it waits for so many times, counted
            from 1, as when a worker stops. One that waits less often comes to its end.

    Raises:
        ValueError: If `deliveries` is neither, or `interrupt_at` is given without "twice".
        ContainerClosedError: If the container was closed, as by an earlier runner.
        DeclarationError: If an annotation of a handler with `pydantic=True` cannot be evaluated, as a worker says too.
        TasksStillRunError: At the end, if tasks have not ended in time. They are cancelled.

    Example:
        >>> from examples.quickstart.services import Mailer
        >>> from examples.quickstart.tasks import OrderTasks
        >>> from pico_celery_worker.testing import TaskRunner
        >>> from pico_ioc import init
        >>> class NoMailer:
        ...     async def send(self, to: str, text: str) -> str:
        ...         return f"{to} would get: {text}"
        >>> modules = ["pico_celery", "examples.quickstart.services", "examples.quickstart.tasks"]
        >>> with TaskRunner(init(modules=modules, overrides={Mailer: NoMailer()})) as runner:
        ...     runner.run(OrderTasks.confirm, 7, email="ada@shop.example")
        'ada@shop.example would get: Order 7 is confirmed.'
    """

    def __init__(
        self,
        container: PicoContainer,
        *,
        timeout: float = 10,
        deliveries: Literal["once", "twice"] = "once",
        interrupt_at: int | None = None,
    ) -> None:
        if deliveries not in ("once", "twice") or (interrupt_at is not None and deliveries == "once"):
            raise ValueError('deliveries is "once" or "twice", and only with "twice" there is something to interrupt')
        self._container = container
        self._timeout = timeout
        self._app: Celery = container.get(Celery)
        self._runtime = _runtime(self._app, container)
        self._app.finalize()
        for executor in self._runtime.executors:
            refuse_unresolved(executor.handler)
        self._pool = InProcessPool(self._app, is_delivered_twice=deliveries == "twice")
        self._interruption = Interruption(interrupt_at) if interrupt_at is not None else None
        self._restore: Callable[[], None] | None = None

    @property
    def interrupted(self) -> Sequence[str]:
        """Where handlers were cancelled because of `interrupt_at`: task, file and line."""
        return () if self._interruption is None else tuple(self._interruption.places)

    @property
    def app(self) -> Celery:
        """The container's Celery app."""
        return self._app

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop(error)

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._stop, error)

    def run(
        self, handler: Callable[Concatenate[Any, _P], Coroutine[Any, Any, _R]], *args: _P.args, **kwargs: _P.kwargs
    ) -> _R:
        """Send a handler's task, and wait for what becomes of it; of use where there is no client.

        Args:
            handler: A `@task` method of a component's class, such as `OrderTasks.confirm`.
            *args: The task's positional arguments.
            **kwargs: The task's keyword arguments.

        Returns:
            What the handler returns, as its annotation declares it, or else as a result backend returns it.

        Raises:
            celery.exceptions.TimeoutError: If it takes longer than the runner's `timeout`.
            TypeError: If it is not a handler.
            Exception: What the handler raises, as a result backend returns it.
        """
        spec = task_spec(handler)
        if spec is None:
            hint = "Give it a method of a component's class, such as OrderTasks.confirm."
            raise DeclarationError("TaskRunner.run()", handler.__qualname__, "it is not a @task method", hint)
        known = self._app.tasks.get(spec.name)
        values = getattr(known, "values", None)
        sent_args, sent_kwargs = values.sent(args, kwargs) if values else (args, kwargs)
        result: Any = self._app.send_task(spec.name, sent_args, sent_kwargs)
        if getattr(known, "ignore_result", False):
            self.join()
            result.ignored = True  # there is nothing to wait for
        value: Any = result.get(timeout=self._timeout)
        return values.revived(value) if values and not result.ignored else value  # type: ignore[no-any-return]

    async def arun(
        self, handler: Callable[Concatenate[Any, _P], Coroutine[Any, Any, _R]], *args: _P.args, **kwargs: _P.kwargs
    ) -> _R:
        """Do as `run` does, without blocking the event loop."""
        return await asyncio.to_thread(lambda: self.run(handler, *args, **kwargs))

    def deliver(self, message: Any) -> Any:
        """Execute a message that a worker has received before, such as that of a dead letter.

        Args:
            message: A task's message, of Celery's second protocol: kombu's `Message`.

        Returns:
            Celery's `AsyncResult`.
        """
        self._pool.deliver(message)
        result: Any = self._app.AsyncResult(message.headers["id"])
        return result

    def join(self, timeout: float | None = None) -> None:
        """Wait until every task has ended, those included that tasks have sent.

        Args:
            timeout: How long to wait, in seconds, instead of the runner's `timeout`.

        Raises:
            TasksStillRunError: If some have not ended in time.
        """
        timeout = self._timeout if timeout is None else timeout
        running = self._pool.wait(timeout)
        if running:
            raise TasksStillRunError(", ".join(running), timeout)

    async def ajoin(self, timeout: float | None = None) -> None:
        """Do as `join` does, without blocking the event loop."""
        await asyncio.to_thread(self.join, timeout)

    def _start(self) -> None:
        refuse_closed(self._container, "TaskRunner")
        with _lock:
            _running.add(self)
        loop_runner = current_runner()
        self._restore = keep_in_memory(self._app, Outbox(self._pool.deliver), Results(self._app, loop_runner.loop))
        try:
            self._runtime.enforce_limits(soft=True, hard=True)  # as no pool does here
            for executor in self._runtime.executors:
                loop_runner.run(executor.plan.prepare())
                if self._interruption is not None:
                    self._interruption.strike(executor)
        except BaseException as error:
            self._stop(error)
            raise

    def _stop(self, error: BaseException | None) -> None:
        try:
            if error is None:
                self.join()
        finally:
            self._pool.close()
            try:
                self._cancel()
                current_runner().run(close(self._container, Timeouts.of(self._app).cleanup))
            finally:
                self._let_go()

    def _cancel(self) -> None:
        """Cancel the tasks that run, and those that were sent and are about to begin."""
        deadline = time.monotonic() + self._timeout
        while self._pool.wait(0) and time.monotonic() < deadline:
            current_runner().run(cancel_all(None))
            self._pool.wait(_GLANCE)

    def _let_go(self) -> None:
        self._runtime.enforce_limits(soft=True, hard=False)
        if self._restore is not None:
            self._restore()
        with _lock:
            _running.discard(self)
            if not _running:
                close_runner()


def _runtime(app: Celery, container: PicoContainer) -> Runtime:
    runtime = runtime_of(app)
    if runtime is None or runtime.container is not container:
        raise LookupError(
            "The Celery app does not run this container's tasks. Put 'pico_celery' among the modules of init(), and "
            "make the runner before another container takes over the same app."
        )
    return runtime
