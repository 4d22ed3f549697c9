"""Checks of stubs against the handlers of their tasks."""

from collections.abc import Iterable, Iterator

from pico_celery_core.contract.compatibility import Comparison
from pico_celery_core.contract.file import ContractEntry
from pico_celery_core.contract.signatures import message_signature
from pico_celery_core.options import TYPED
from pico_celery_core.values.returned import is_typed
from pico_celery_core.values.schemas import misfit, schema_of
from pico_celery_core.values.untyped import untyped_annotations
from pico_celery_worker.cli.checks.finding import Finding, Severity, untyped_finding
from pico_celery_worker.cli.inspection import Inspection
from pico_celery_worker.container.handlers import Handler
from pico_celery_worker.tasks.compatibility import compare_stub, compare_with
from pico_celery_worker.tasks.values import are_typed


def check(inspection: Inspection) -> Iterator[Finding]:
    """Look at the container's stubs."""
    handlers = {handler.spec.name: handler for handler in inspection.handlers}
    for stub in inspection.stubs:
        if is_typed(inspection.app, stub.spec.options.get(TYPED)):
            for found in untyped_annotations(stub.function, "pico-celery-client"):
                yield untyped_finding(str(stub), found)
        handler = handlers.get(stub.spec.name)
        if handler is not None:
            yield from _compare(str(stub), compare_stub(stub, handler), handler)
        elif stub.spec.name not in inspection.app.tasks:
            yield Finding(
                "no-handler",
                Severity.INFO,
                str(stub),
                f"No handler of {stub.spec.name!r} is in this container.",
                "Check the task's name, unless another worker handles it.",
            )


def check_promises(inspection: Inspection, promises: Iterable[ContractEntry]) -> Iterator[Finding]:
    """Look at the stubs of clients elsewhere, as their contract tells of them."""
    handlers = {handler.spec.name: handler for handler in inspection.handlers}
    for stub in promises:
        handler = handlers.get(stub.task)
        if handler is not None:
            yield from _compare(str(stub), compare_with(stub.signature, handler), handler)
            if are_typed(handler, inspection.app):
                yield from _compare_values(stub, handler)
        elif stub.task not in inspection.app.tasks:
            yield Finding(
                "no-handler",
                Severity.ERROR,
                str(stub),
                f"It sends {stub.task!r}, of which this app has no handler.",
                "Restore the handler's name, or change the client first.",
            )


def _compare_values(stub: ContractEntry, handler: Handler) -> Iterator[Finding]:
    signature = message_signature(handler.function, bound=bool(handler.spec.options.get("bind")))
    problems = []
    for name, sent in stub.schemas.items():
        parameter = signature.parameters.get(name)
        taken = None if parameter is None else schema_of(parameter.annotation, "validation")
        problem = "" if taken is None else misfit(sent, taken)
        problems += [f"Its {name!r} does not fit {handler}: {problem}."] if problem else []
    returned = schema_of(signature.return_annotation, "serialization")
    problem = misfit(returned, stub.returned) if returned is not None and stub.returned is not None else ""
    problems += [f"What {handler} returns does not fit it: {problem}."] if problem else []
    for told in problems:
        hint = "Deploy what takes both first: a new field with a default, an old one that may be left out."
        yield Finding("contract", Severity.ERROR, str(stub), told, hint)


def _compare(stub: str, comparison: Comparison, handler: Handler) -> Iterator[Finding]:
    for incompatibility in comparison.incompatibilities[:1]:
        yield Finding(
            "contract",
            Severity.ERROR,
            stub,
            f"{incompatibility}. The handler is {handler}{handler.signature}.",
            "Give the stub the handler's parameters.",
        )
    if comparison.surplus is not None:
        yield Finding(
            "loose-contract",
            Severity.WARNING,
            stub,
            f"It lets pass what the handler refuses: {comparison.surplus}. "
            f"The handler is {handler}{handler.signature}.",
            "Write out the handler's parameters instead of *args and **kwargs.",
        )
    for difference in comparison.differences:
        yield Finding(
            "contract-differs",
            Severity.WARNING,
            stub,
            f"It differs from its handler {handler}: {difference}.",
            "Declare the same in both.",
        )
