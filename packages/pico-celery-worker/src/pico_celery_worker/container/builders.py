"""What a plan is made of: builders, each a function from an execution's scope to one component.

They are nested closures, made once; running one costs little more than the constructors that it calls. Each exists
twice, plain and as a coroutine function, so that only what has to be awaited is.
"""

import inspect
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

from celery.exceptions import SoftTimeLimitExceeded, TaskPredicate
from pico_ioc import ComponentCreationError, PicoError


class Scope(Protocol):
    """What is built into: the instances of one execution."""

    created: list[Any]

    @property
    def instances(self) -> Any:
        """The container's store of the execution's task-scoped instances."""
        ...


class SingletonScope:
    """The scope of singletons: the container cleans them up."""

    def __init__(self) -> None:
        self.created: list[Any] = []

    @property
    def instances(self) -> Any:
        """Refuse."""
        raise LookupError("A singleton cannot depend on the instances of one execution.")


@dataclass(frozen=True, slots=True)
class Builder:
    """Builds one component into a scope; `awaits` tells whether it is a coroutine function."""

    build: Callable[[Scope], Any]
    awaits: bool = False


class Constant(Builder):
    """A component that is there already."""

    __slots__ = ("value",)

    value: Any

    def __init__(self, value: Any) -> None:
        super().__init__(lambda _: value)
        object.__setattr__(self, "value", value)


ABSENT: Final = object()
"""What a builder returns for an argument that is left to its default."""

# These end the execution, wherever they are raised: a time limit, and what asks for a retry or a rejection.
_CONTROL_FLOW: Final = (SoftTimeLimitExceeded, TaskPredicate)

# These say themselves what is wrong, or are not the component's failure.
_NOT_WRAPPED: Final = (PicoError, *_CONTROL_FLOW)


class Arguments:
    """The arguments of one call: what is known beforehand, and what is built for each."""

    __slots__ = ("awaits", "built", "constants")

    def __init__(self, builders: dict[str, Builder]) -> None:
        self.constants = {name: b.value for name, b in builders.items() if isinstance(b, Constant)}
        self.built = [(name, b) for name, b in builders.items() if not isinstance(b, Constant)]
        self.awaits = any(builder.awaits for _, builder in self.built)

    def build(self, scope: Scope) -> dict[str, Any]:
        """Build the arguments; only if none has to be awaited."""
        built = {name: value for name, b in self.built if (value := b.build(scope)) is not ABSENT}
        return {**self.constants, **built}

    async def build_async(self, scope: Scope) -> dict[str, Any]:
        """Build the arguments, one after the other."""
        arguments = dict(self.constants)
        for name, builder in self.built:
            value = await builder.build(scope) if builder.awaits else builder.build(scope)
            if value is not ABSENT:
                arguments[name] = value
        return arguments


@dataclass(frozen=True, slots=True)
class Initializer:
    """A method that belongs to the making of an instance: `__ainit__` or `@configure`."""

    name: str
    arguments: Arguments
    is_coroutine: bool

    @property
    def awaits(self) -> bool:
        """Whether `call` returns a coroutine."""
        return self.is_coroutine or self.arguments.awaits

    def call(self, scope: Scope, instance: Any) -> Any:
        """Call the method on a new instance."""
        return self._call_async(scope, instance) if self.awaits else self._call(instance, self.arguments.build(scope))

    async def _call_async(self, scope: Scope, instance: Any) -> None:
        result = self._call(instance, await self.arguments.build_async(scope))
        if self.is_coroutine:
            await result

    def _call(self, instance: Any, arguments: dict[str, Any]) -> Any:
        result = getattr(instance, self.name)(**arguments)
        if result is not None and not self.is_coroutine and inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()
            raise TypeError(f"{self.name} returned an awaitable: declare it `async def`")
        return result


def calling(function: Callable[..., Any], arguments: Arguments) -> Builder:
    """Make the builder that calls a class or a function."""
    if arguments.awaits:

        async def call_async(scope: Scope) -> Any:
            return function(**await arguments.build_async(scope))

        return Builder(call_async, awaits=True)
    constants, built = arguments.constants, arguments.built
    if built:
        return Builder(
            lambda scope: function(
                **constants, **{name: value for name, b in built if (value := b.build(scope)) is not ABSENT}
            )
        )
    return Builder((lambda _: function(**constants)) if constants else (lambda _: function()))


def calling_method(owner: Builder, name: str, arguments: Arguments) -> Builder:
    """Make the builder that calls a method of what another one builds."""

    async def call(scope: Scope) -> Any:
        instance = await owner.build(scope) if owner.awaits else owner.build(scope)
        return getattr(instance, name)(**await arguments.build_async(scope))

    return Builder(call, awaits=True)


def finished(
    construct: Builder,
    initialize: Sequence[Initializer],
    wrap: Callable[[Any], Any] | None,
    *,
    is_cleaned_up: bool,
) -> Builder:
    """Make the builder that constructs, remembers for clean-up, initializes and wraps."""
    if construct.awaits or any(method.awaits for method in initialize):

        async def build_async(scope: Scope) -> Any:
            instance = await construct.build(scope) if construct.awaits else construct.build(scope)
            if is_cleaned_up:
                scope.created.append(instance)
            for method in initialize:
                result = method.call(scope, instance)
                if method.awaits:
                    await result
            return wrap(instance) if wrap else instance

        return Builder(build_async, awaits=True)
    if not (is_cleaned_up or initialize or wrap):
        return construct

    def build(scope: Scope) -> Any:
        instance = construct.build(scope)
        if is_cleaned_up:
            scope.created.append(instance)
        for method in initialize:
            method.call(scope, instance)
        return wrap(instance) if wrap else instance

    return Builder(build)


def named(key: Any, builder: Builder) -> Builder:
    """Make the builder whose failures name the component."""
    build = builder.build
    if builder.awaits:

        async def build_async(scope: Scope) -> Any:
            try:
                return await build(scope)
            except _NOT_WRAPPED:
                raise
            except Exception as error:
                raise ComponentCreationError(key, error) from error

        return Builder(build_async, awaits=True)

    def build_named(scope: Scope) -> Any:
        try:
            return build(scope)
        except _NOT_WRAPPED:
            raise
        except Exception as error:
            raise ComponentCreationError(key, error) from error

    return Builder(build_named)


def shared(key: Any, builder: Builder) -> Builder:
    """Make the builder that builds once in a scope."""
    if builder.awaits:

        async def build_async(scope: Scope) -> Any:
            instance = scope.instances.get(key)
            if instance is None:
                instance = await builder.build(scope)
                scope.instances.put(key, instance)
            return instance

        return Builder(build_async, awaits=True)

    def build(scope: Scope) -> Any:
        instance = scope.instances.get(key)
        if instance is None:
            instance = builder.build(scope)
            scope.instances.put(key, instance)
        return instance

    return Builder(build)


def first_of(first: Builder, others: Sequence[Builder], *, is_optional: bool) -> Builder:
    """Make the builder that tries one after the other, and at last leaves an optional argument to its default."""
    if any(builder.awaits for builder in (first, *others)):

        async def build_async(scope: Scope) -> Any:
            try:
                return await first.build(scope) if first.awaits else first.build(scope)
            except _CONTROL_FLOW:
                raise
            except Exception:
                for other in others:
                    with _suppressed():
                        return await other.build(scope) if other.awaits else other.build(scope)
                if is_optional:
                    return ABSENT
                raise

        return Builder(build_async, awaits=True)

    def build(scope: Scope) -> Any:
        try:
            return first.build(scope)
        except _CONTROL_FLOW:
            raise
        except Exception:
            for other in others:
                with _suppressed():
                    return other.build(scope)
            if is_optional:
                return ABSENT
            raise

    return Builder(build)


@contextmanager
def _suppressed() -> Generator[None]:
    try:
        yield
    except _CONTROL_FLOW:
        raise
    except Exception:  # noqa: BLE001, S110  # the container keeps the first error
        pass


def list_of(builders: Sequence[Builder]) -> Builder:
    """Make the builder of a list."""
    if any(builder.awaits for builder in builders):

        async def build_async(scope: Scope) -> list[Any]:
            return [await b.build(scope) if b.awaits else b.build(scope) for b in builders]

        return Builder(build_async, awaits=True)
    return Builder(lambda scope: [builder.build(scope) for builder in builders])


def dict_of(keys: Sequence[Any], values: Builder) -> Builder:
    """Make the builder of a dict; None among the keys leaves a value out."""
    if values.awaits:

        async def build_async(scope: Scope) -> dict[Any, Any]:
            return _dict(keys, await values.build(scope))

        return Builder(build_async, awaits=True)
    return Builder(lambda scope: _dict(keys, values.build(scope)))


def _dict(keys: Sequence[Any], values: Sequence[Any]) -> dict[Any, Any]:
    return {key: value for key, value in zip(keys, values, strict=True) if key is not None}
