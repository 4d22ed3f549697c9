"""Singletons that have to be awaited: made once a process, on the worker's loop, before the first task needs them.

pico-ioc makes its singletons in `init()`, which is not async, so one with an async `__ainit__`, `@configure` or
`@provides` must be declared lazy: its dependents get a proxy. Here the object behind that proxy is made.
"""

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextvars import Context
from typing import Any

from pico_ioc import DependencyRequest, PicoContainer, ProviderMetadata
from pico_ioc.constants import SCOPE_SINGLETON

from pico_celery_core import _pico_ioc as access
from pico_celery_worker.container.cleanup import hooks_of, method_dependencies


class AsyncSingletons:
    """The singletons of a container, among them those that only a coroutine can make.

    Args:
        container: Where they belong.
    """

    def __init__(self, container: PicoContainer) -> None:
        self._container = container
        self._made: dict[Any, Any] = {}
        self._making: dict[Any, asyncio.Task[None]] = {}

    def get(self, key: Any) -> Any:
        """Return a singleton; one that has to be awaited must be prepared."""
        return self._made[key] if key in self._made else self._container.get(key)

    def awaited_by(self, key: Any) -> list[ProviderMetadata]:
        """Return the singletons to await that a component can reach, each after those it depends on itself."""
        return [
            metadata
            for metadata in self._reachable(access.provider_key(self._container, key), seen=set())
            if metadata.scope == SCOPE_SINGLETON and metadata.lazy and needs_awaiting(self._container, metadata)
        ]

    def in_order(self, keys: Iterable[Any]) -> Iterator[Any]:
        """Yield the keys of components, and of those they can reach, each after those it depends on."""
        seen: set[Any] = set()
        for key in keys:
            if self._container.metadata_for(key) is None:
                yield key
            else:
                yield from (metadata.key for metadata in self._reachable(key, seen))

    async def make(
        self, metadata: ProviderMetadata, construct: Callable[[ProviderMetadata], Coroutine[Any, Any, Any]]
    ) -> None:
        """Make a singleton, unless it is made; callers that want it meanwhile wait for the same one.

        Args:
            metadata: The singleton's provider.
            construct: Makes an instance by its provider's metadata.
        """
        key = metadata.key
        if key in self._made:
            return
        making = self._making.get(key)
        if making is None:
            # In a context of its own: it outlives the task that happens to be the first to need it.
            loop = asyncio.get_running_loop()
            making = loop.create_task(self._make(metadata, construct), name=f"make {key}", context=Context())
            self._making[key] = making
            making.add_done_callback(lambda _: self._making.pop(key, None))
        await asyncio.shield(making)

    async def _make(
        self, metadata: ProviderMetadata, construct: Callable[[ProviderMetadata], Coroutine[Any, Any, Any]]
    ) -> None:
        with self._container.as_current():
            proxy = self._container.get(metadata.key)
            instance = access.unwrap_proxy(proxy)
            if inspect.iscoroutine(instance):  # someone has used the proxy too early, and it took this for its object
                instance.close()
                instance = None
            if instance is None:
                instance = access.unwrap_proxy(await construct(metadata))
                access.put_behind(proxy, instance)
        self._made[metadata.key] = proxy if access.is_intercepted(type(instance)) else instance

    def _reachable(self, key: Any, seen: set[Any]) -> Iterator[ProviderMetadata]:
        if key in seen:
            return
        seen.add(key)
        metadata = self._container.metadata_for(key)
        if metadata is None:
            return
        for wanted in needed_by(self._container, metadata):
            yield from self._reachable(wanted, seen)
        yield metadata


def needed_by(container: PicoContainer, metadata: ProviderMetadata) -> Iterator[Any]:
    """Yield the keys of the components that a component may depend on."""
    for dependency in dependencies_of(container, metadata):
        collects = dependency.is_list or dependency.is_dict
        yield from (access.collected if collects else access.candidates)(container, dependency)


def dependencies_of(container: PicoContainer, metadata: ProviderMetadata) -> Iterator[DependencyRequest]:
    """Yield all that the container needs for a component: to make it, to initialize it, and to clean it up."""
    recipe = access.recipe(container, metadata.key)
    if recipe is not None:
        yield from recipe.dependencies
        if recipe.factory is not None:
            yield from recipe.factory.dependencies
    for cls in _classes(container, metadata):
        for name in initializers(cls):
            yield from method_dependencies(cls, name)
        for hook in hooks_of(cls):
            yield from hook.dependencies


def needs_awaiting(container: PicoContainer, metadata: ProviderMetadata) -> bool:
    """Tell whether only a coroutine can make a component, as far as that can be known beforehand."""
    recipe = access.recipe(container, metadata.key)
    maker = recipe.function if recipe is not None else access.override_of(container, metadata.key)
    methods = [getattr(cls, name) for cls in _classes(container, metadata) for name in initializers(cls)]
    return any(map(inspect.iscoroutinefunction, [maker, *methods]))


def _classes(container: PicoContainer, metadata: ProviderMetadata) -> list[type]:
    """Return the classes that take part in the making of a component: its own, and its factory's."""
    recipe = access.recipe(container, metadata.key)
    if recipe is None:
        given = access.override_of(container, metadata.key)
        return [given if isinstance(given, type) else type(given)]
    if isinstance(recipe.function, type):
        return [recipe.function]
    classes = [metadata.provided_type, recipe.factory and recipe.factory.function]
    return [cls for cls in classes if isinstance(cls, type)]


def initializers(cls: Any) -> list[str]:
    """Return the names of the methods that finish a new instance, in the container's order."""
    ainit = ["__ainit__"] if inspect.iscoroutinefunction(getattr(cls, "__ainit__", None)) else []
    return [*ainit, *access.marked_methods(cls, "configure")]
