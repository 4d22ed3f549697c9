"""PicoTaskRegistrar: finds `@task` methods and registers them with Celery."""

import logging

from celery import Celery
from pico_ioc import PicoContainer, component, configure
from pico_ioc.constants import SCOPE_SINGLETON

from pico_celery_core._pico_ioc import TASK_SCOPE
from pico_celery_core.errors import DuplicateTaskError
from pico_celery_core.failures.backend import store_failures_in_full
from pico_celery_core.metadata import handlers
from pico_celery_core.publishing_time import note_publishing_times
from pico_celery_worker.container.handlers import Handler, components_of, handlers_of
from pico_celery_worker.container.plan import Plan
from pico_celery_worker.container.singletons import AsyncSingletons
from pico_celery_worker.execution.execution import Executor
from pico_celery_worker.execution.interceptors import TaskInterceptor, TaskInterceptors
from pico_celery_worker.lifecycle.worker import attach
from pico_celery_worker.tasks.compatibility import check_compatibility
from pico_celery_worker.tasks.runtime import Runtime, runtime_of
from pico_celery_worker.tasks.schedules import add_schedules
from pico_celery_worker.tasks.task import AsyncTask, register

logger = logging.getLogger(__name__)


@component
class PicoTaskRegistrar:
    """Registers every `@task` method of the container's components with the app, once, when the container starts.

    The app is neither configured nor finalised by it: the tasks are there as soon as something asks for them, and what
    is connected to `app.on_after_configure` and `app.on_after_finalize` until then is called.

    Args:
        container: Where components come from, at registration and for each execution.
        app: The Celery app that gets the tasks.
    """

    def __init__(self, container: PicoContainer, app: Celery) -> None:
        self._container = container
        self._app = app
        store_failures_in_full(app)
        note_publishing_times()
        container.scopes.register_scope(TASK_SCOPE)

    @configure  # type: ignore[untyped-decorator]
    def register(self) -> None:
        """Register all tasks, and the container with the worker's life cycle.

        Raises:
            DuplicateTaskError: If two handlers share a name, or a handler and another task of an app that is finalised.
                Where the app is not, its `finalize` raises this for the latter.
            ScheduleError: If a schedule cannot be that of its handler.
            ContractError: If no call of a stub in the container fits the handler of its task.
        """
        found: dict[str, Handler] = {}
        self._warn_of_singletons()
        for handler in handlers_of(self._container):
            other = found.setdefault(handler.spec.name, handler)
            if (other.cls, other.method) != (handler.cls, handler.method):
                raise DuplicateTaskError(handler.spec.name, str(other), str(handler))
            if handler.key is handler.cls:  # rather than one of the interfaces that it is provided as
                found[handler.spec.name] = handler
        check_compatibility(self._container, found)
        add_schedules(self._app, found.values())
        if runtime_of(self._app) is not None:
            self._app.finalize()  # so that the tasks of the older container are there, and can make way
        singletons = AsyncSingletons(self._container)
        interceptors = self._interceptors(singletons)
        executors = []
        for name, handler in found.items():
            if self._app.finalized:
                self._unregister_previous(name, handler)
            plan = Plan(self._container, handler.key, singletons)
            executors.append(Executor(self._container, self._app, handler, plan, interceptors))
            register(self._app, executors[-1])
        attach(self._app, Runtime(self._container, executors))
        logger.debug("Registered %d tasks: %s", len(found), ", ".join(sorted(found)))

    def _interceptors(self, singletons: AsyncSingletons) -> Plan | None:
        is_any = any(issubclass(cls, TaskInterceptor) for _, cls, _ in components_of(self._container))
        return Plan(self._container, TaskInterceptors, singletons) if is_any else None

    def _warn_of_singletons(self) -> None:
        for _, cls, scope in components_of(self._container):
            if scope == SCOPE_SINGLETON and any(handlers(cls)):
                logger.warning(
                    "Task component %s is a singleton: its executions share one instance and its state. "
                    'Declare it @component(scope="prototype") to give each its own',
                    cls.__qualname__,
                )

    def _unregister_previous(self, name: str, handler: Handler) -> None:
        present = self._app.tasks.get(name)
        if present is None:
            return
        if not isinstance(present, AsyncTask):
            raise DuplicateTaskError(name, f"{present.__module__}.{type(present).__name__}", str(handler))
        logger.debug("Task %r of %s gives way to that of a newer container", name, present.handler)
        self._app.tasks.unregister(name)
