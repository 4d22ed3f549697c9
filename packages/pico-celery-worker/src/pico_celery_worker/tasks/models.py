"""The annotations of handlers with `pydantic=True`, by which Celery makes models of a message's arguments.

Celery 5.7 evaluates them all at once. If one name is missing, as those under `TYPE_CHECKING` are, and those of classes
within the component's, it takes none of them for a model, and the handler gets dicts. So each is evaluated by itself
here, and one that cannot be is an error when a worker starts, as it may be a model's.
"""

import inspect
from collections.abc import Callable
from typing import Any, Final

from pico_celery_core.contract.signatures import evaluate, method_signature, names_around
from pico_celery_core.errors import DeclarationError
from pico_celery_worker.container.handlers import Handler

_RETURN: Final = "return"


def resolve_annotations(function: Callable[..., Any], wrapper: Callable[..., Any]) -> None:
    """Give what Celery wraps the annotations of the handler's method, evaluated as far as they can be.

    Args:
        function: The handler's method.
        wrapper: What stands for it.
    """
    hints, _ = _evaluated(function)
    signature = method_signature(function)
    parameters = [p.replace(annotation=hints.get(p.name, p.annotation)) for p in signature.parameters.values()]
    returned = hints.get(_RETURN, signature.return_annotation)
    vars(wrapper)["__signature__"] = signature.replace(parameters=parameters, return_annotation=returned)
    wrapper.__annotations__ = hints


def unresolved_annotation(handler: Handler) -> DeclarationError | None:
    """Return what is wrong with the first annotation that cannot be evaluated, of a handler with `pydantic=True`."""
    options = handler.spec.options
    if not options.get("pydantic"):
        return None
    _, failed = _evaluated(handler.function)
    bound_to = next(iter(handler.signature.parameters), None) if options.get("bind") else None
    for name, (annotation, error) in failed.items():
        if name == bound_to:  # the task, and no argument of the message
            continue
        what = "its return annotation" if name == _RETURN else f"the annotation of its parameter {name!r}"
        problem = (
            f"{what}, {annotation!r}, cannot be evaluated: {error}. With pydantic=True a model there would not be seen"
        )
        hint = "Import the name at run time too, not only under TYPE_CHECKING; a class may not stand in a function."
        return DeclarationError(f"@task({handler.spec.name!r})", str(handler), problem, hint)
    return None


def refuse_unresolved(handler: Handler) -> None:
    """Check that the annotations of a handler with `pydantic=True` can be evaluated.

    Raises:
        DeclarationError: If one cannot.
    """
    unresolved = unresolved_annotation(handler)
    if unresolved is not None:
        raise unresolved


def _evaluated(function: Callable[..., Any]) -> tuple[dict[str, Any], dict[str, tuple[Any, Exception]]]:
    """Return the annotations of a method, and those among them that stay as they are, with the reason."""
    signature, names = method_signature(function), names_around(function)
    annotations = {parameter.name: parameter.annotation for parameter in signature.parameters.values()}
    annotations[_RETURN] = signature.return_annotation
    failed: dict[str, tuple[Any, Exception]] = {}
    for name, annotation in list(annotations.items()):
        if annotation is inspect.Parameter.empty:
            del annotations[name]
            continue
        try:
            annotations[name] = evaluate(annotation, names, include_extras=False)
        except Exception as error:  # noqa: BLE001  # of whatever kind, the annotation means nothing
            failed[name] = annotation, error
    return annotations, failed
