"""What a container lacks for its tasks to run, though it starts: a component for a class, or a scope that is open."""

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from pico_ioc import PICO_INFRA, PicoContainer, ProviderMetadata
from pico_ioc.constants import SCOPE_PROTOTYPE, SCOPE_SINGLETON

from pico_celery_core import _pico_ioc as access
from pico_celery_core.metadata import declaring_classes
from pico_celery_core.suggestions import near_miss
from pico_celery_worker.container.singletons import dependencies_of

_OPEN: Final = (SCOPE_SINGLETON, SCOPE_PROTOTYPE, access.TASK_SCOPE)


@dataclass(frozen=True, slots=True)
class ClosedScope:
    """A component that a task needs, in a scope that is not open while a task runs.

    Args:
        component: What the container calls the component.
        scope: Its scope.
        is_known: Whether the container has such a scope.
        suggestion: The scope that was probably meant, where it has none of that name.
    """

    component: str
    scope: str
    is_known: bool
    suggestion: str = ""

    @property
    def problem(self) -> str:
        """What is wrong."""
        reason = "which a worker does not open" if self.is_known else "which the container does not know"
        return f"A task needs {self.component}, which has the scope {self.scope!r}, {reason}: each execution fails."

    @property
    def hint(self) -> str:
        """What to do."""
        meant = repr(self.suggestion) if self.suggestion else f"{SCOPE_PROTOTYPE!r} or {access.TASK_SCOPE!r}"
        return f"Did you mean {meant}?"


@dataclass(frozen=True, slots=True)
class UndeclaredComponent:
    """A class with `@task` methods that is no component, so that nothing runs its tasks.

    Args:
        cls: The class, with its module.
        tasks: The names of its tasks.
    """

    cls: str
    tasks: tuple[str, ...]

    @property
    def problem(self) -> str:
        """What is wrong."""
        return f"{self.cls} declares {', '.join(map(repr, self.tasks))}, and is no component: no worker runs that."

    @property
    def hint(self) -> str:
        """What to do."""
        return f"Did you mean @component(scope={SCOPE_PROTOTYPE!r}) above the class?"


def closed_scopes(container: PicoContainer, keys: Iterable[Any]) -> list[ClosedScope]:
    """Return what tasks cannot get, because its scope is not open while they run.

    Args:
        container: Where the components are.
        keys: What the container calls the components of the tasks.
    """
    seen: dict[Any, list[ProviderMetadata]] = {}
    found = [metadata for key in keys for metadata in _out_of_reach(container, key, seen)]
    known = (*_OPEN, *container.scopes.names())
    return list(dict.fromkeys(_closed(metadata, known) for metadata in found))


def _closed(metadata: ProviderMetadata, known: Iterable[str]) -> ClosedScope:
    scope = metadata.scope
    is_known = scope in known
    return ClosedScope(_name(metadata.key), scope, is_known, "" if is_known else near_miss(scope, known, cutoff=0.6))


def _out_of_reach(
    container: PicoContainer, key: Any, seen: dict[Any, list[ProviderMetadata]]
) -> list[ProviderMetadata]:
    metadata = container.metadata_for(key)
    if metadata is None:
        return []
    if key not in seen:
        seen[key] = []  # for what depends on itself
        seen[key] = [metadata] if metadata.scope not in _OPEN else list(_needed_by(container, metadata, seen))
    return seen[key]


def _needed_by(
    container: PicoContainer, metadata: ProviderMetadata, seen: dict[Any, list[ProviderMetadata]]
) -> Iterator[ProviderMetadata]:
    for dependency in dependencies_of(container, metadata):
        if dependency.is_list or dependency.is_dict:
            for key in access.collected(container, dependency):
                yield from _out_of_reach(container, key, seen)
        elif not dependency.is_optional:
            # The container takes the first candidate that it can get.
            attempts = [_out_of_reach(container, key, seen) for key in access.candidates(container, dependency)]
            if attempts and all(attempts):
                yield from attempts[0]


def undeclared_components() -> list[UndeclaredComponent]:
    """Return the classes with `@task` methods that were imported, and are no components of any container.

    Base classes of components and abstract classes are left out.
    """
    return [
        UndeclaredComponent(_name(cls), tuple(names))
        for cls, names in _unknown_classes().items()
        if not hasattr(cls, PICO_INFRA) and not inspect.isabstract(cls)
    ]


def unlisted_components() -> list[str]:
    """Return the names of components with `@task` methods that were imported, and that no container has.

    Their modules are not among those of `init()`, or a condition leaves them out.
    """
    return [_name(cls) for cls in _unknown_classes() if hasattr(cls, PICO_INFRA)]


def _unknown_classes() -> dict[type, list[str]]:
    components = {base for cls in _component_classes() for base in cls.__mro__}
    return {cls: names for cls, names in declaring_classes().items() if cls not in components}


def _component_classes() -> Iterator[type]:
    for container in PicoContainer.all_containers().values():
        for key in container.keys():
            metadata = container.metadata_for(key)
            cls = metadata and (metadata.concrete_class or metadata.provided_type)
            if inspect.isclass(cls):
                yield cls


def _name(key: Any) -> str:
    return f"{key.__module__}.{key.__qualname__}" if isinstance(key, type) else str(key)
