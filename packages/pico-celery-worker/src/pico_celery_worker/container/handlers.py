"""The declared methods of a container's components: handlers, which messages call, and stubs, which send them."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pico_ioc import PicoContainer

from pico_celery_core.contract.signatures import method_signature
from pico_celery_core.metadata import SendSpec, TaskSpec, handlers, stubs


@dataclass(frozen=True)
class DeclaredMethod:
    """A method of a component that the container knows.

    Args:
        cls: The component's class.
        method: The method's name.
    """

    cls: type
    method: str

    @property
    def function(self) -> Any:
        """The method, as the class has it."""
        return getattr(self.cls, self.method)

    @cached_property
    def signature(self) -> inspect.Signature:
        """The method's signature without `self`."""
        return method_signature(self.function)

    def __str__(self) -> str:
        return f"{self.cls.__module__}.{self.cls.__qualname__}.{self.method}"


@dataclass(frozen=True)
class Handler(DeclaredMethod):
    """A `@task` method.

    Args:
        cls: The component's class.
        method: The method's name.
        key: What the container calls the component.
        spec: What `@task` says of it.
    """

    key: Any
    spec: TaskSpec


@dataclass(frozen=True)
class Stub(DeclaredMethod):
    """A `@send_task` method.

    Args:
        cls: The component's class.
        method: The method's name.
        spec: What `@send_task` says of it.
    """

    spec: SendSpec


def components_of(container: PicoContainer) -> Iterator[tuple[Any, type, str]]:
    """Yield the key, the class and the scope of each component of a container whose class is known."""
    for key in container.keys():
        provider = container.metadata_for(key)
        cls = provider and (provider.concrete_class or provider.provided_type)
        if provider is not None and inspect.isclass(cls):
            yield key, cls, provider.scope


def handlers_of(container: PicoContainer) -> Iterator[Handler]:
    """Yield the handlers of a container's components, once for each key of the component."""
    for key, cls, _ in components_of(container):
        for method, spec in handlers(cls):
            yield Handler(cls=cls, method=method, key=key, spec=spec)


def stubs_of(container: PicoContainer) -> Iterator[Stub]:
    """Yield the stubs of a container's components, each once."""
    for cls in dict.fromkeys(cls for _, cls, _ in components_of(container)):
        for method, spec in stubs(cls):
            yield Stub(cls, method, spec)
