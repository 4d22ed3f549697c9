"""The stubs of a container, each held against the handler of its task, where the container has both."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from pico_ioc import PicoContainer

from pico_celery_core.contract.compatibility import Comparison, compare
from pico_celery_core.contract.signatures import message_signature, method_signature
from pico_celery_core.errors import ContractError
from pico_celery_core.metadata import SendSpec, stubs
from pico_celery_worker.execution.execution import Handler


@dataclass(frozen=True)
class Stub:
    """A `@send_task` method of a component that the container knows.

    Args:
        cls: The component's class.
        method: The method's name.
        spec: What `@send_task` says of it.
    """

    cls: type
    method: str
    spec: SendSpec

    @cached_property
    def signature(self) -> inspect.Signature:
        """The method's signature without `self`."""
        return method_signature(getattr(self.cls, self.method))

    def compare(self, handler: Handler) -> Comparison:
        """Compare this stub with the handler of its task."""
        return compare_with(message_signature(getattr(self.cls, self.method)), handler)

    def __str__(self) -> str:
        return f"{self.cls.__module__}.{self.cls.__qualname__}.{self.method}"


def compare_with(stub: inspect.Signature, handler: Handler) -> Comparison:
    """Compare a stub's signature with what a handler's messages have to fit."""
    options = handler.spec.options
    expected = message_signature(getattr(handler.cls, handler.method), bound=bool(options.get("bind")))
    if options.get("pydantic"):
        # Celery makes models of what arrives, so the annotations say little about what to send.
        unannotated = [p.replace(annotation=p.empty) for p in expected.parameters.values()]
        expected = expected.replace(parameters=unannotated, return_annotation=inspect.Signature.empty)
    return compare(stub, expected)


def stubs_of(container: PicoContainer) -> Iterator[Stub]:
    """Yield the stubs of a container's components, each once."""
    classes: dict[type, None] = {}
    for key in container.keys():
        provider = container.metadata_for(key)
        cls = provider and (provider.concrete_class or provider.provided_type)
        if inspect.isclass(cls):
            classes[cls] = None
    for cls in classes:
        for method, spec in stubs(cls):
            yield Stub(cls, method, spec)


def refuse_contradictions(container: PicoContainer, handlers: Mapping[str, Handler]) -> None:
    """Check that each stub agrees with the handler of its task.

    Args:
        container: Where the stubs are.
        handlers: The container's handlers by the names of their tasks.

    Raises:
        ContractError: If no call of a stub fits its handler.
    """
    for stub in stubs_of(container):
        handler = handlers.get(stub.spec.name)
        comparison = handler and stub.compare(handler)
        if handler and comparison and not comparison.agrees:
            raise ContractError(
                stub.spec.name,
                f"{stub}{stub.signature}",
                f"{handler}{handler.signature}",
                str(comparison.misfits[0]),
            )
