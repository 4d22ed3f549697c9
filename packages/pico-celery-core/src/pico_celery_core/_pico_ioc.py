"""The one adapter to what pico-ioc keeps private. Read in pico-ioc 2.5.2.

Three things need it:

- An execution. pico-ioc's own `aget` looks through every new instance twice with `inspect`, which takes as long as all
  of Celery; resolves only the component itself asynchronously, not what it depends on; and forgets the prototypes it
  made, so they cannot be cleaned up. `pico_celery_worker.container` does better, on the same metadata, but some things
  stand only in private parts: which provider a key means and what that provider calls, the instances of a scope, and
  the object behind a lazy proxy.
- Celery's settings. pico-ioc binds a configuration prefix only to a class that lists its fields beforehand, and to
  either tree or flat sources. Celery's settings are many, and both kinds of source are common.
- A client with further options, whose proxy needs the container of the one it was copied from.

tests/unit/core/test_pico_ioc.py holds each to what the container itself does.
"""

import inspect
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from pico_ioc import PICO_META, DependencyRequest, PicoContainer, UnifiedComponentProxy

TASK_SCOPE: Final = "task"

# Where the providers are made whose recipe can be read: pico-ioc's scanner, and its registrar for `on_missing`.
_SCANNED: Final = ("pico_ioc.component_scanner", "pico_ioc.registrar")

_ABSENT: Final = object()


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the container calls to make a component.

    Args:
        function: A class, or a function.
        dependencies: What it is called with.
        method: The name, where the function is a method of a factory.
        factory: What the container calls each time to make that factory.
    """

    function: Callable[..., Any]
    dependencies: tuple[DependencyRequest, ...]
    method: str = ""
    factory: "Recipe | None" = None


def provider_key(container: PicoContainer, key: Any) -> Any | None:
    """Return the key of the provider that `container.get(key)` would use, or None."""
    try:
        key = container._canonical_key(key)  # noqa: SLF001
        return key if container._factory.has(key) else None  # noqa: SLF001
    except TypeError:  # not hashable: some annotations are not
        return None


def dependency_key(container: PicoContainer, key: Any) -> Any | None:
    """Return the key of the provider that a dependency's key means, which may be a name, or None."""
    if isinstance(key, str):
        key = _locator(container).find_key_by_name(key) or key
    return provider_key(container, key)


def candidates(container: PicoContainer, dependency: DependencyRequest) -> list[Any]:
    """Return the keys of the providers that the container would try for a dependency, one after the other."""
    by_type = dependency_key(container, dependency.key)
    by_name = provider_key(container, dependency.parameter_name)
    return list(dict.fromkeys(key for key in (by_type, by_name) if key is not None))


def collected(container: PicoContainer, dependency: DependencyRequest) -> list[Any]:
    """Return the keys of the providers that the container would collect for a list or a dict."""
    if not isinstance(dependency.key, type):
        return []
    keys: list[Any] = _locator(container).collect_by_type(dependency.key, dependency.qualifier)
    return keys


def dict_keys(container: PicoContainer, dependency: DependencyRequest, keys: Iterable[Any]) -> list[Any]:
    """Return under what the container would put each of the collected into a dict; None for those it would leave."""
    kind = dependency.dict_key_type
    found = [container._extract_dict_key(key, container.metadata_for(key), kind) for key in keys]  # noqa: SLF001
    return [None if kind is type and not isinstance(key, type) else key for key in found]


def provider(container: PicoContainer, key: Any) -> Callable[[], Any]:
    """Return what the container calls to make a component, behind the proxy of a lazy one."""
    bound: Callable[[], Any] = container._factory._providers[key]  # noqa: SLF001
    return _defaults(bound)[0] if getattr(bound, "__name__", "") == "lazy_proxy_provider" else bound


def recipe(container: PicoContainer, key: Any) -> Recipe | None:
    """Return what a component's provider calls; None for an override or a custom scanner's, which is called itself."""
    builder = getattr(provider(container, key), "_builder", None)
    if builder is None or builder.__module__ not in _SCANNED:
        return None
    match _defaults(builder):
        case (function, dependencies):
            return Recipe(function, dependencies)
        case (factory, method, factory_dependencies, dependencies):
            return Recipe(getattr(factory, method), dependencies, method, Recipe(factory, factory_dependencies))
        case _:
            return None


def override_of(container: PicoContainer, key: Any) -> Any:
    """Return what was given as an override: an instance, or what makes one. None for what is not overridden."""
    bound = provider(container, key)
    overridden = inspect.isfunction(bound) and bound.__module__ == "pico_ioc.api"
    return _defaults(bound)[0] if overridden else None


def is_observed(container: PicoContainer) -> bool:
    """Tell whether someone wants to hear of each resolution."""
    return bool(container._observers)  # noqa: SLF001


def arguments(container: PicoContainer, dependencies: tuple[DependencyRequest, ...]) -> dict[str, Any]:
    """Return what the container would call a `@cleanup` method with."""
    resolved: dict[str, Any] = container._resolve_args(dependencies)  # noqa: SLF001
    return resolved


def task_instances(container: PicoContainer) -> Any:
    """Return the container's own store of the active task scope's instances, with `get(key)` and `put(key, value)`."""
    return container._caches.for_scope(container.scopes, TASK_SCOPE)  # noqa: SLF001


def task_scope_instances(container: PicoContainer, scope_id: Hashable) -> list[Any]:
    """Return a task scope's instances, in order of creation."""
    store = container._caches._by_scope.get(TASK_SCOPE, {}).get(scope_id)  # noqa: SLF001
    return [instance for _, instance in store.items()] if store else []


def forget_task_scope(container: PicoContainer, scope_id: Hashable) -> None:
    """Take a task scope's instances out of the container, without the hooks that `cleanup_scope` would run."""
    container._caches._by_scope.get(TASK_SCOPE, {}).pop(scope_id, None)  # noqa: SLF001


def singletons(container: PicoContainer) -> list[Any]:
    """Return the singletons made so far, in order of creation."""
    return [*singletons_by_key(container).values()]


def singletons_by_key(container: PicoContainer) -> dict[Any, Any]:
    """Return the singletons made so far and the keys of their providers, in order of creation."""
    return dict(container._caches._singleton.items())  # noqa: SLF001


@contextmanager
def without_cleanup_targets(container: PicoContainer) -> Generator[None]:
    """Have the container find nothing to clean up, and no lazy singletons, which it would make by looking at them."""
    store = container._caches._singleton  # noqa: SLF001
    sleeping = [(key, instance) for key, instance in store.items() if unwrap_proxy(instance) is None]
    for key, _ in sleeping:
        store.put(key, _ABSENT)
    vars(container)["_iterate_cleanup_targets"] = tuple
    try:
        yield
    finally:
        del vars(container)["_iterate_cleanup_targets"]
        for key, instance in sleeping:
            store.put(key, instance)


def unwrap_proxy(instance: Any) -> Any:
    """Return the object behind a proxy of pico-ioc's, or None for a lazy one that was not made yet."""
    if isinstance_of_proxy(instance):
        return object.__getattribute__(instance, "_target")
    return instance


def put_behind(proxy: UnifiedComponentProxy, instance: Any) -> None:
    """Give a lazy proxy its object."""
    object.__setattr__(proxy, "_target", instance)


def isinstance_of_proxy(instance: Any) -> bool:
    """Tell a proxy without waking it: `isinstance` would ask it for the class of its object."""
    return issubclass(type(instance), UnifiedComponentProxy)


def is_intercepted(cls: type) -> bool:
    """Tell whether the container would put a proxy around instances of a class."""
    return any(has_interceptors(member) for _, member in inspect.getmembers(cls, inspect.isroutine))


def marked_methods(cls: type, mark: str) -> Iterator[str]:
    """Yield the names of the methods marked with `@configure` or `@cleanup`, in pico-ioc's order."""
    for name, member in inspect.getmembers_static(cls):
        if getattr(member, PICO_META, {}).get(mark, _ABSENT) is True:
            yield name


def configuration_tree(container: PicoContainer) -> Mapping[str, Any]:
    """Return the merged tree sources of a container's configuration."""
    manager: Any = container._config_manager  # noqa: SLF001
    tree: Mapping[str, Any] = manager._resolver.tree()  # noqa: SLF001
    return tree


def flat_sources(container: PicoContainer) -> list[tuple[Any, str]]:
    """Return the flat sources of a container's configuration, each with its own prefix."""
    manager: Any = container._config_manager  # noqa: SLF001
    sources: Any = manager._flat_config  # noqa: SLF001
    return [(source, str(vars(source).get("prefix", vars(source).get("_prefix", "")))) for source in sources]


def flat_value(container: PicoContainer, name: str) -> str | None:
    """Return what the flat sources say under a name."""
    manager: Any = container._config_manager  # noqa: SLF001
    value: str | None = manager._lookup_flat(name)  # noqa: SLF001
    return value


def same_proxy(proxy: UnifiedComponentProxy, instance: Any) -> UnifiedComponentProxy:
    """Return a proxy like another, of the same container, around another instance."""
    container: Any = proxy._container  # noqa: SLF001
    return UnifiedComponentProxy(container=container, target=instance)


def has_interceptors(member: Any) -> bool:
    """Tell whether `@intercepted_by` stands on a function."""
    return bool(getattr(member, "_pico_interceptors_", None))


def _defaults(function: Any) -> tuple[Any, ...]:
    """Return what pico-ioc binds to its lambdas, which is in their parameters' defaults."""
    defaults: tuple[Any, ...] = function.__defaults__
    return defaults


def _locator(container: PicoContainer) -> Any:
    return container._locator  # noqa: SLF001
