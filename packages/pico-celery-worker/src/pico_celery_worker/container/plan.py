"""The compiled plan that builds a task component and what it needs.

A plan is made from the container's metadata once: what singletons to pass, which classes to call in which order, what
to await, what to clean up afterwards. It does what `container.aget` does, faster and asynchronously at every depth.
What it cannot prove equal, it leaves to `container.aget`, and says so in a debug log.
"""

import inspect
import logging
import weakref
from collections.abc import Callable
from typing import Any, Final, NoReturn

from pico_ioc import (
    ComponentCreationError,
    DependencyRequest,
    PicoContainer,
    PicoError,
    ProviderMetadata,
    ProviderNotFoundError,
    UnifiedComponentProxy,
)
from pico_ioc.constants import SCOPE_PROTOTYPE, SCOPE_SINGLETON

from pico_celery_core import _pico_ioc as access
from pico_celery_core._pico_ioc import Recipe
from pico_celery_worker.container import builders
from pico_celery_worker.container.builders import Arguments, Builder, Constant, Initializer, Scope, SingletonScope
from pico_celery_worker.container.cleanup import clean_up, hooks_of, method_dependencies
from pico_celery_worker.container.singletons import AsyncSingletons, initializers, needs_awaiting

logger = logging.getLogger(__name__)

# For what a singleton leaves behind that cannot be made, in seconds: no execution's setting applies to it.
_CLEANUP_TIMEOUT: Final = 10


class Plan:
    """How to get one component, anew for each execution.

    Args:
        container: Where the metadata, and everything else, comes from.
        key: What the container calls the component.
        singletons: Makes the singletons that have to be awaited.
    """

    def __init__(self, container: PicoContainer, key: Any, singletons: AsyncSingletons) -> None:
        self._container = container
        self._key = access.provider_key(container, key) or key
        self._singletons = singletons
        self._awaited = singletons.awaited_by(key)
        self._builder: Builder | None = None

    async def prepare(self) -> None:
        """Make the singletons that have to be awaited, and compile.

        Raises:
            PicoError: If one of them cannot be made; the next call tries again.
        """
        compiler = _Compiler(self._container, self._singletons)
        for metadata in self._awaited:
            await self._singletons.make(metadata, compiler.construct)
        if self._builder is None:
            self._builder = compiler.compile_root(self._key)

    async def resolve(self, scope: Scope) -> Any:
        """Get the component, with everything it needs, into a scope.

        Raises:
            PicoError: If it cannot be built, or something that it needs.
        """
        if self._builder is None:
            await self.prepare()
        builder: Any = self._builder
        return await builder.build(scope) if builder.awaits else builder.build(scope)


class _NotProvableError(Exception):
    """The plan would not be sure to do as the container does."""


class _Compiler:
    """Turns what the container knows of components into builders."""

    def __init__(self, container: PicoContainer, singletons: AsyncSingletons) -> None:
        self._container = container
        self._singletons = singletons
        self._pending: list[Any] = []

    def compile_root(self, key: Any) -> Builder:
        builder = self._compile(key)
        if isinstance(builder, Constant) and access.unwrap_proxy(builder.value) is None:
            return self._left_to_container(key)  # lazy: asking for it makes it
        return builder

    async def construct(self, metadata: ProviderMetadata) -> Any:
        """Make a singleton's instance now; if that fails, clean up what was made of it."""
        try:
            builder = self._construction(metadata)
        except _NotProvableError as reason:
            raise ComponentCreationError(metadata.key, reason) from None
        scope = SingletonScope()
        try:
            return await builder.build(scope) if builder.awaits else builder.build(scope)
        except BaseException:
            label = f"the singleton {getattr(metadata.key, '__qualname__', metadata.key)}, which could not be made,"
            await clean_up(self._container, reversed(scope.created), label, _CLEANUP_TIMEOUT)
            raise

    def _compile(self, key: Any) -> Builder:
        if key in self._pending:
            reason = "it depends on itself"
        else:
            self._pending.append(key)
            try:
                return self._by_scope(key)
            except _NotProvableError as error:
                reason = str(error)
            finally:
                self._pending.pop()
        logger.debug("container.aget resolves %s: %s", getattr(key, "__qualname__", key), reason)
        return self._left_to_container(key)

    def _by_scope(self, key: Any) -> Builder:
        metadata = self._container.metadata_for(key)
        if metadata is None or metadata.scope == SCOPE_SINGLETON:
            return Constant(self._singletons.get(key))
        if access.is_observed(self._container):
            raise _NotProvableError("the container has observers")
        if metadata.scope not in (SCOPE_PROTOTYPE, access.TASK_SCOPE):
            raise _NotProvableError(f"its scope is {metadata.scope!r}")
        if metadata.lazy and not needs_awaiting(self._container, metadata):
            raise _NotProvableError("it is lazy")
        builder = self._construction(metadata)
        return builders.shared(key, builder) if metadata.scope == access.TASK_SCOPE else builder

    def _construction(self, metadata: ProviderMetadata) -> Builder:
        key = metadata.key
        recipe = access.recipe(self._container, key)
        if recipe is None:
            return self._provided(key, Builder(lambda _: access.provider(self._container, key)()))
        if isinstance(recipe.function, type):
            wrap = self._wrapping(key, recipe.function)
            return builders.named(key, self._made(recipe, initializers(recipe.function), wrap))
        arguments = self._arguments(key, recipe.dependencies)
        if recipe.factory is None:
            return self._provided(key, builders.calling(recipe.function, arguments))
        # The container makes a factory for each call, and does not configure it.
        factory = self._made(recipe.factory, [n for n in initializers(recipe.factory.function) if n == "__ainit__"])
        return self._provided(key, builders.calling_method(factory, recipe.method, arguments))

    def _made(self, recipe: Recipe, methods: list[str], wrap: Callable[[Any], Any] | None = None) -> Builder:
        cls: Any = recipe.function
        if hasattr(cls, "__await__"):
            raise _NotProvableError("its instances are awaitable")
        dependencies = () if cls.__init__ is object.__init__ else recipe.dependencies
        construct = builders.calling(cls, self._arguments(cls, dependencies))
        initialize = [self._initializer(cls, name) for name in methods]
        return builders.finished(construct, initialize, wrap, is_cleaned_up=bool(hooks_of(cls)))

    def _provided(self, key: Any, call: Builder) -> Builder:
        """What a function returns is known only then: await it, initialize it and clean it up as its class says."""
        given = access.override_of(self._container, key)
        finishers: weakref.WeakKeyDictionary[type, tuple[list[Initializer], Any, bool]] = weakref.WeakKeyDictionary()

        async def build(scope: Scope) -> Any:
            instance = await call.build(scope) if call.awaits else call.build(scope)
            if access.isinstance_of_proxy(instance):
                return instance
            if inspect.isawaitable(instance):
                instance = await instance
            cls = type(instance)
            if cls not in finishers:
                methods = [self._initializer(cls, name) for name in access.marked_methods(cls, "configure")]
                finishers[cls] = methods, self._wrapping(key, cls), bool(hooks_of(cls))
            initialize, wrap, is_cleaned_up = finishers[cls]
            if is_cleaned_up and instance is not given and not self._is_singleton(instance):
                scope.created.append(instance)
            for method in initialize:
                result = method.call(scope, instance)
                if method.awaits:
                    await result
            return wrap(instance) if wrap else instance

        return builders.named(key, Builder(build, awaits=True))

    def _is_singleton(self, instance: Any) -> bool:
        return any(access.unwrap_proxy(singleton) is instance for singleton in access.singletons(self._container))

    def _wrapping(self, key: Any, cls: type) -> Callable[[Any], Any] | None:
        if not access.is_intercepted(cls):
            return None
        return lambda instance: UnifiedComponentProxy(container=self._container, target=instance, component_key=key)

    def _initializer(self, cls: type, name: str) -> Initializer:
        arguments = self._arguments(cls, method_dependencies(cls, name))
        return Initializer(name, arguments, inspect.iscoroutinefunction(getattr(cls, name)))

    def _arguments(self, owner: Any, dependencies: tuple[DependencyRequest, ...]) -> Arguments:
        compiled = {dependency.parameter_name: self._dependency(owner, dependency) for dependency in dependencies}
        return Arguments({name: builder for name, builder in compiled.items() if builder is not None})

    def _dependency(self, owner: Any, dependency: DependencyRequest) -> Builder | None:
        if dependency.is_list or dependency.is_dict:
            keys = access.collected(self._container, dependency)
            values = builders.list_of([self._compile(key) for key in keys])
            if dependency.is_list:
                return values
            return builders.dict_of(access.dict_keys(self._container, dependency, keys), values)
        keys = access.candidates(self._container, dependency)
        if not keys:
            # The container finds out at each resolution; so does this, and says for whom it was.
            return None if dependency.is_optional else Builder(lambda _: _not_found(dependency, owner))
        first, *others = [self._attempt(key) for key in keys]
        if isinstance(first, Constant) or (not others and not dependency.is_optional):
            return first
        return builders.first_of(first, others, is_optional=dependency.is_optional)

    def _attempt(self, key: Any) -> Builder:
        try:
            return self._compile(key)
        except PicoError:
            return Builder(lambda _: self._singletons.get(key))  # what fails now may work then

    def _left_to_container(self, key: Any) -> Builder:
        metadata = self._container.metadata_for(key)
        ours = metadata is not None and metadata.scope == SCOPE_PROTOTYPE
        given = access.override_of(self._container, key)

        async def build(scope: Scope) -> Any:
            instance = await self._container.aget(key)
            real = access.unwrap_proxy(instance)
            if ours and real is not given and hooks_of(type(real)):
                scope.created.append(real)
            return instance

        return builders.named(key, Builder(build, awaits=True))


def _not_found(dependency: DependencyRequest, owner: Any) -> NoReturn:
    raise ProviderNotFoundError(dependency.key, owner)
