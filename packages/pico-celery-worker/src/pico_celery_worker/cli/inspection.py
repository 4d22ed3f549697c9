"""What an app's tasks are and what their components need: for people, and for `celery pico`."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from celery import Celery
from celery.exceptions import QueueNotFound
from pico_ioc import PicoContainer

from pico_celery_core import _pico_ioc as access
from pico_celery_core.contract.signatures import message_signature
from pico_celery_worker.container.handlers import Handler, Stub, stubs_of
from pico_celery_worker.container.singletons import AsyncSingletons, dependencies_of
from pico_celery_worker.tasks.runtime import runtime_of
from pico_celery_worker.tasks.task import AsyncTask


@dataclass(frozen=True)
class Dependency:
    """A component in the tree of what a task's component needs.

    Args:
        name: What the container calls it.
        cls: The class that provides it, with its module; empty where that is not known.
        scope: Its scope in the container.
        awaited: Whether the worker awaits its making at start, before the first task.
        repeated: Whether the tree has it further up already, with what it needs.
        needs: What it needs itself.
    """

    name: str
    cls: str
    scope: str
    awaited: bool = False
    repeated: bool = False
    needs: tuple["Dependency", ...] = ()


@dataclass(frozen=True)
class TaskDescription:
    """All there is to know of a task before it runs.

    Args:
        name: The task's name.
        component: The class of its component, with its module.
        method: The method that handles it.
        scope: The component's scope in the container.
        queue: Where Celery sends the task from this app; a stub may name another queue.
        options: The options of `@task`, without the queue.
        signature: What a message's arguments have to fit.
        summary: The first line of the method's docstring.
        needs: What the component needs.
    """

    name: str
    component: str
    method: str
    scope: str
    queue: str
    options: Mapping[str, Any]
    signature: inspect.Signature
    summary: str
    needs: tuple[Dependency, ...]


class Inspection:
    """A look at an app and the container behind it.

    Args:
        app: The app.
        container: The container that has registered the app's tasks.
    """

    def __init__(self, app: Celery, container: PicoContainer) -> None:
        self.app = app
        self.container = container
        self._singletons = AsyncSingletons(container)

    @cached_property
    def handlers(self) -> list[Handler]:
        """The handlers of the container's tasks, by the names of the tasks."""
        tasks = [task for _, task in sorted(self.app.tasks.items()) if isinstance(task, AsyncTask)]
        return [task.handler for task in tasks if task.executor.container is self.container]

    @cached_property
    def stubs(self) -> list[Stub]:
        """The container's stubs."""
        return list(stubs_of(self.container))

    @cached_property
    def awaited(self) -> set[Any]:
        """The keys of the singletons that the worker awaits at start."""
        return {metadata.key for handler in self.handlers for metadata in self._singletons.awaited_by(handler.key)}

    def tasks(self) -> Iterator[TaskDescription]:
        """Describe each task of the container, in the order of their names."""
        for handler in self.handlers:
            function = handler.function
            root = self._dependency(handler.key, set())
            yield TaskDescription(
                name=handler.spec.name,
                component=qualified(handler.cls),
                method=handler.method,
                scope=root.scope,
                queue=self.queue_of(handler),
                options={name: value for name, value in handler.spec.options.items() if name != "queue"},
                signature=message_signature(function, bound=bool(handler.spec.options.get("bind"))),
                summary=next(iter((inspect.getdoc(function) or "").splitlines()), ""),
                needs=root.needs,
            )

    def queue_of(self, handler: Handler) -> str:
        """Return where this app would send a handler's task."""
        queue = handler.spec.options.get("queue")
        try:
            queue = self.app.amqp.router.route({"queue": queue} if queue else {}, handler.spec.name)["queue"]
        except QueueNotFound:  # as every call that sends the task says
            queue = queue or self.app.conf.task_default_queue
        return str(getattr(queue, "name", queue))

    def _dependency(self, key: Any, shown: set[Any]) -> Dependency:
        metadata = self.container.metadata_for(key)
        if metadata is None:
            return Dependency(_name(key), "", "singleton")
        given = access.override_of(self.container, key)
        provided = metadata.concrete_class or metadata.provided_type if given is None else type(given)
        keys = list(dict.fromkeys(self._keys(metadata)))
        dependency = Dependency(
            name=_name(key),
            cls=qualified(provided) if isinstance(provided, type) else "",
            scope=metadata.scope,
            awaited=key in self.awaited,
            repeated=key in shown and bool(keys),
        )
        if key in shown:
            return dependency
        shown.add(key)
        return replace(dependency, needs=tuple(self._dependency(each, shown) for each in keys))

    def _keys(self, metadata: Any) -> Iterator[Any]:
        for dependency in dependencies_of(self.container, metadata):
            if dependency.is_list or dependency.is_dict:
                yield from access.collected(self.container, dependency)
            else:
                yield from access.candidates(self.container, dependency)[:1]


def inspect_app(app: Celery) -> Inspection | None:
    """Look at an app; None where no container of pico-celery is behind it."""
    runtime = runtime_of(app)
    return None if runtime is None else Inspection(app, runtime.container)


def queues_of(inspection: Inspection) -> list[str]:
    """Return the names of the queues that are configured, and of those to which the handlers' tasks are sent."""
    configured = [queue.name for queue in inspection.app.amqp.queues.values()]
    return list(dict.fromkeys([*configured, *map(inspection.queue_of, inspection.handlers)]))


def qualified(cls: type) -> str:
    """Return a class's name with that of its module."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _name(key: Any) -> str:
    return key.__qualname__ if isinstance(key, type) else str(key)
