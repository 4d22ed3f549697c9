"""AsyncTask: the Celery task that carries an async handler. Here a message becomes a coroutine."""

import asyncio
import functools
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from celery import Celery, Task
from celery.app import base as celery_app
from celery.exceptions import Retry
from celery.local import PromiseProxy, maybe_evaluate

from pico_celery_core.errors import DeclarationError, DuplicateTaskError
from pico_celery_core.tracebacks import begin_in_handler
from pico_celery_worker.container.handlers import Handler
from pico_celery_worker.execution.execution import Execution, Executor
from pico_celery_worker.loop import current_runner, current_task
from pico_celery_worker.tasks.masking import ARGS, HIDDEN, KWARGS, Mask, is_masked
from pico_celery_worker.tasks.models import resolve_annotations
from pico_celery_worker.tasks.schedules import SCHEDULE_OPTION, complete
from pico_celery_worker.tasks.values import HandlerValues


class AsyncTask(Task):  # type: ignore[misc]  # Celery has no types
    """A Celery task whose `run` is a coroutine function.

    Celery calls the task as any other and gets its value; between the two stands the process's event loop, on which
    an execution becomes an asyncio task while the caller waits.
    """

    abstract = True

    Request = "pico_celery_worker.consumer.request:AsyncRequest"
    Strategy = "pico_celery_worker.consumer.unacked:strategy"

    executor: Executor
    """Runs the handler; set when the task is registered."""

    called_by_celery: Callable[..., Any]
    """What a message calls: Celery's composition of what it does around a task."""

    @classmethod
    def on_bound(cls, app: Celery) -> None:
        """Let `celery.current_task` and `request` find the execution from inside its coroutines."""
        super().on_bound(app)
        current_task.make_coroutine_aware(cls.request_stack)

    @property
    def handler(self) -> Handler:
        """The method that the task runs."""
        return self.executor.handler

    @functools.cached_property
    def mask(self) -> Mask:
        """What the handler's sensitive arguments are shown as; false if it has none."""
        app: Any = self.app
        return Mask(self.handler, maxlen=app.amqp.argsrepr_maxsize, maxlevels=app.conf.task_repr_maxlevels)

    @functools.cached_property
    def values(self) -> HandlerValues | None:
        """What turns the arguments of messages into what the handler declares; None where that is off."""
        return HandlerValues.of(self)

    def apply_async(self, args: Any = None, kwargs: Any = None, *more: Any, **options: Any) -> Any:
        """Send the task, as Celery's `Task.apply_async`, with arguments of the types that the handler declares.

        What the handler marks as sensitive is not shown.
        """
        if self.values is not None:
            args, kwargs = self.values.sent(args, kwargs)
        if self.mask:
            options = {**self.mask.shown(args or (), kwargs or {}), **options}
        if SCHEDULE_OPTION in options and not complete(self.app, options):
            return None
        return super().apply_async(args, kwargs, *more, **options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task and wait for its value, as Celery does with every task."""
        try:
            if not self.request.called_directly:
                return self._call(args, kwargs, self.values)
            with current_task.pushed(self, args, kwargs):
                return self._call(args, kwargs, None)
        except BaseException as error:
            begin_in_handler(error)
            raise

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any], values: HandlerValues | None) -> Any:
        if values is not None:
            # Before the component is made, and outside of Celery's autoretry: what does not fit now never will.
            args, kwargs = values.received(args, kwargs)
        try:
            value = self.called_by_celery(*args, **kwargs)
        except _RetryRequestedError as request:
            super().retry(**request.arguments)
            raise
        except BaseExceptionGroup as group:
            wanted = _only_request(group)
            if wanted is not None:
                super().retry(**wanted.arguments)
            raise
        return value if values is None else values.returned(value)

    def retry(
        self, args: Any = None, kwargs: Any = None, exc: Any = None, throw: bool = True, *more: Any, **options: Any
    ) -> Any:
        """Retry the task, as Celery's `Task.retry`.

        Inside a coroutine it raises at once, and the message is sent when the execution has ended, so that neither
        its clean-up is overtaken nor the event loop waits for the broker.
        """
        options |= zip(("eta", "countdown", "max_retries"), more, strict=False)
        is_here = asyncio._get_running_loop() is not None and not self.request.called_directly  # noqa: SLF001
        if throw and is_here and self._has_retries_left(options.get("max_retries")):
            raise _RetryRequestedError({"args": args, "kwargs": kwargs, "exc": exc, **options})
        try:
            return super().retry(args, kwargs, exc, throw, **options)
        except Exception as error:
            if isinstance(error, self.MaxRetriesExceededError) and error is not exc:
                self._hide_arguments(error, args, kwargs)
            begin_in_handler(error)
            raise

    def _has_retries_left(self, max_retries: int | None) -> bool:
        own: Any = self.max_retries
        limit = own if max_retries is None else max_retries
        return limit is None or (self.request.retries or 0) < limit

    def _hide_arguments(self, error: Any, args: Any, kwargs: Any) -> None:
        """Have an error of Celery's that shows the message's arguments do so as the message does."""
        shown = self._shown(self.request, args, kwargs)
        if is_masked(shown):
            text = f"Can't retry {self.name}[{self.request.id}] args:{shown[ARGS]} kwargs:{shown[KWARGS]}"
            error.args, error.task_args, error.task_kwargs = (text,), shown[ARGS], shown[KWARGS]

    def signature_from_request(
        self, request: Any = None, args: Any = None, kwargs: Any = None, queue: Any = None, **options: Any
    ) -> Any:
        """Return what a retry sends, as Celery does, but show its arguments as the message's own were shown.

        Celery would show them anew, and with them what the sender has marked as sensitive.
        """
        shown = self._shown(self.request if request is None else request, args, kwargs)
        return super().signature_from_request(request, args, kwargs, queue, **{**shown, **options})

    @staticmethod
    def _shown(message: Any, args: Any, kwargs: Any) -> Mapping[str, str]:
        """Return how a message's arguments are shown, or those that a retry has in their place."""
        shown = {name: str(getattr(message, name, None) or "") for name in HIDDEN}
        if args is None and kwargs is None:
            return shown if all(shown.values()) else {}
        return HIDDEN if is_masked(shown) else {}


class _RetryRequestedError(Retry):  # type: ignore[misc]
    """Carries the arguments of `retry` from the coroutine to Celery's tracer, which waits for it."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        super().__init__("Retry was asked for", exc=arguments.get("exc"))
        self.arguments = arguments

    def __reduce__(self) -> NoReturn:
        raise TypeError("a retry that was only asked for does not leave the process")


def _only_request(group: BaseExceptionGroup[Any]) -> _RetryRequestedError | None:
    """Return the retry that a group of asyncio tasks asks for, if nothing else went wrong in it."""
    first: Any = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    _, others = group.split(_RetryRequestedError)
    return first if others is None else None


def register(app: Celery, executor: Executor) -> None:
    """Register a handler with Celery: at once if the app is finalised, else when it will be, as Celery's own tasks are.

    So a container that starts leaves the app as it is, neither configured nor finalised.

    Celery composes what it does around a task (autoretry, pydantic) of plain functions, so it is given one; its
    composition is what a message calls, and `run` becomes the coroutine function.

    Args:
        app: The app that gets the task.
        executor: Runs the handler.

    Raises:
        DeclarationError: If the task's `base` cannot be that of an async task.
        DuplicateTaskError: If the app has another task of this name. Celery's `finalize` raises it if it comes then.
    """
    handler = executor.handler
    function = handler.function
    bound = bool(handler.spec.options.get("bind"))
    task: Any = None

    @functools.wraps(function)
    def wait(*args: Any, **kwargs: Any) -> Any:
        execution = Execution(executor, task, args, kwargs)
        return current_runner().run(execution.run(), execution.cancel_scope)

    @functools.wraps(function)
    async def run(*args: Any, **kwargs: Any) -> Any:
        return await Execution(executor, task, (task, *args) if bound else args, kwargs).run()

    def complete() -> None:
        nonlocal task
        task = maybe_evaluate(declared)
        if getattr(task, "executor", None) is not executor:
            raise DuplicateTaskError(handler.spec.name, f"{task.__module__}.{type(task).__name__}", str(handler))
        task.called_by_celery, task.run = task.run, run

    vars(wait)["__signature__"] = handler.signature
    if handler.spec.options.get("pydantic"):
        resolve_annotations(function, wait)
    # Celery merges the arguments of a retry by what `run` takes from a message.
    parameters = list(handler.signature.parameters.values())
    vars(run)["__signature__"] = handler.signature.replace(parameters=parameters[1:] if bound else parameters)
    options = dict(handler.spec.options)
    options["base"] = _base(options.get("base") or app.Task, handler)
    # Where processes are spawned and not forked, Celery makes a lazy task one of every app of the process.
    declared: Any = app.task(
        name=handler.spec.name, lazy=not celery_app.USING_EXECV, shared=False, executor=executor, **options
    )(wait)
    if type(declared) is PromiseProxy:
        declared.__then__(complete)
    else:
        complete()


def _base(base: Any, handler: Handler) -> Any:
    """Return the class that is both an AsyncTask and the task's own `base`."""
    if issubclass(base, AsyncTask):
        return base
    if base.__call__ is not Task.__call__:
        problem = f"its base {base.__qualname__} overrides __call__, which would not be called"
        hint = "Use before_start and after_return there, or an interceptor on the handler."
        raise DeclarationError("@task", str(handler), problem, hint)
    if issubclass(AsyncTask, base):
        return AsyncTask
    return type(base.__name__, (AsyncTask, base), {"abstract": True, "__module__": base.__module__})
