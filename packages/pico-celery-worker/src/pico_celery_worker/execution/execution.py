"""One execution of a task: open its scope, resolve its component, call the handler, clean up."""

from functools import cached_property, partial
from typing import Any

from celery import Celery
from pico_ioc import PicoContainer, PicoError

from pico_celery_core.errors import HandlerArgumentsError
from pico_celery_core.one_line import one_line
from pico_celery_core.timeouts import Timeouts
from pico_celery_worker.container.failures import innermost, resolution_error
from pico_celery_worker.container.handlers import Handler
from pico_celery_worker.container.plan import Plan
from pico_celery_worker.execution.scope import TaskScope
from pico_celery_worker.loop import current_task
from pico_celery_worker.loop.cancellation import CancelScope


class Executor:
    """Runs one handler, as often as its messages come.

    Args:
        container: Where the component comes from.
        app: Whose settings hold.
        handler: What to run.
        plan: How to get its component.
        interceptors: How to get the `TaskInterceptors`; None where there are none.
    """

    def __init__(
        self, container: PicoContainer, app: Celery, handler: Handler, plan: Plan, interceptors: Plan | None = None
    ) -> None:
        self.container = container
        self.handler = handler
        self.plan = plan
        self.interceptors = interceptors
        self._app = app
        self.enforces_soft_limits = True
        self.enforces_hard_limits = False

    @cached_property
    def timeouts(self) -> Timeouts:
        """How long a cancelled handler and its clean-up may take."""
        return Timeouts.of(self._app)


class Execution:
    """One message's way through the handler.

    Args:
        executor: Whose handler runs.
        task: The Celery task, with its request.
        args: The message's positional arguments.
        kwargs: The message's keyword arguments.
    """

    __slots__ = ("_args", "_executor", "_kwargs", "_label", "_limits", "_task", "cancel_scope")

    def __init__(self, executor: Executor, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._executor = executor
        self._task = task
        self._args = args
        self._kwargs = kwargs
        request = task.request
        soft = (request.soft_time_limit or task.soft_time_limit) if executor.enforces_soft_limits else None
        hard = (request.time_limit or task.time_limit) if executor.enforces_hard_limits else None
        self._limits = soft, hard
        self._label = one_line(f"{executor.handler.spec.name}[{request.id}]")
        self.cancel_scope = CancelScope(self._label, executor.timeouts.cancel)

    async def run(self) -> Any:
        """Run the handler once.

        Returns:
            What the handler returns.

        Raises:
            ResolutionError: If the component cannot be resolved.
            HandlerArgumentsError: If the arguments do not fit the handler.
            Exception: What the handler raises.
        """
        executor = self._executor
        soft_limit, hard_limit = self._limits
        token = current_task.executing.set(self._task)
        try:
            async with TaskScope(executor.container, self._label, executor.timeouts.cleanup) as scope:
                return await self.cancel_scope.guard(
                    self._resolve_and_call(scope) if executor.interceptors is None else self._intercepted(scope),
                    soft_limit=soft_limit,
                    hard_limit=hard_limit,
                )
        finally:
            current_task.executing.reset(token)

    async def _intercepted(self, scope: TaskScope) -> Any:
        executor = self._executor
        plan: Any = executor.interceptors
        try:
            interceptors = await plan.resolve(scope)
        except PicoError as error:
            raise resolution_error(executor.container, executor.handler, error) from innermost(error)
        return await interceptors.call(partial(self._resolve_and_call, scope))

    async def _resolve_and_call(self, scope: TaskScope) -> Any:
        handler = self._executor.handler
        try:
            component = await self._executor.plan.resolve(scope)
        except PicoError as error:
            raise resolution_error(self._executor.container, handler, error) from innermost(error)
        try:
            coroutine = getattr(component, handler.method)(*self._args, **self._kwargs)
        except TypeError as error:
            raise self._arguments_error() or error from None
        return await coroutine

    def _arguments_error(self) -> HandlerArgumentsError | None:
        handler = self._executor.handler
        try:
            handler.signature.bind(*self._args, **self._kwargs)
        except TypeError as error:
            return HandlerArgumentsError(handler.spec.name, str(handler), str(error), str(handler.signature))
        return None
