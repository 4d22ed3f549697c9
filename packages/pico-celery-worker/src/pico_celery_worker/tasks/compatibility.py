"""The stubs of a container, each held against the handler of its task, where the container has both."""

import inspect
from collections.abc import Mapping

from pico_ioc import PicoContainer

from pico_celery_core.contract.compatibility import Comparison, compare
from pico_celery_core.contract.signatures import message_signature
from pico_celery_core.errors import ContractError
from pico_celery_worker.container.handlers import Handler, Stub, stubs_of


def compare_stub(stub: Stub, handler: Handler) -> Comparison:
    """Compare a stub with the handler of its task."""
    return compare_with(message_signature(stub.function), handler)


def compare_with(stub: inspect.Signature, handler: Handler) -> Comparison:
    """Compare a stub's signature with what a handler's messages have to fit."""
    options = handler.spec.options
    expected = message_signature(handler.function, bound=bool(options.get("bind")))
    if options.get("pydantic"):
        # Celery makes models of what arrives, so the annotations say little about what to send.
        unannotated = [p.replace(annotation=p.empty) for p in expected.parameters.values()]
        expected = expected.replace(parameters=unannotated, return_annotation=inspect.Signature.empty)
    return compare(stub, expected)


def check_compatibility(container: PicoContainer, handlers: Mapping[str, Handler]) -> None:
    """Check that each stub agrees with the handler of its task.

    Args:
        container: Where the stubs are.
        handlers: The container's handlers by the names of their tasks.

    Raises:
        ContractError: If no call of a stub fits its handler.
    """
    for stub in stubs_of(container):
        handler = handlers.get(stub.spec.name)
        comparison = handler and compare_stub(stub, handler)
        if handler and comparison and not comparison.agrees:
            raise ContractError(
                stub.spec.name,
                f"{stub}{stub.signature}",
                f"{handler}{handler.signature}",
                str(comparison.incompatibilities[0]),
            )
