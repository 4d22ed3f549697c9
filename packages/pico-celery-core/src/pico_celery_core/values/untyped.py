"""Annotations that say a type which values do not get: told when a program starts, and by `celery pico check`."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from pico_celery_core.contract.signatures import evaluate, message_signature, names_around
from pico_celery_core.values.codec import has_pydantic, is_plain, shown, unfinished

_RETURN: Final = "return"


@dataclass(frozen=True, slots=True)
class Untyped:
    """An annotation that says a type which values do not get.

    Args:
        problem: What is wrong.
        hint: What to do.
        is_fatal: Whether no value fits there.
    """

    problem: str
    hint: str
    is_fatal: bool = False

    def __str__(self) -> str:
        return f"{self.problem} {self.hint}"


def untyped_annotations(function: Callable[..., Any], package: str, *, bound: bool = False) -> tuple[Untyped, ...]:
    """Return which annotations of a method say a type that values do not get.

    Args:
        function: The method of a stub or a handler.
        package: Which package's extra brings pydantic.
        bound: Whether the handler gets the task first, as Celery's `bind=True` says.

    Example:
        >>> async def send(self, to: "Customer"): ...
        >>> [untyped.is_fatal for untyped in untyped_annotations(send, "pico-celery-worker")]
        [False]
    """
    names, signature = names_around(function), message_signature(function, bound=bound)
    annotations = {parameter.name: parameter.annotation for parameter in signature.parameters.values()}
    annotations[_RETURN] = signature.return_annotation
    found = []
    for name, annotation in annotations.items():
        what = "Its return annotation" if name == _RETURN else f"The annotation of its parameter {name!r}"
        untyped = None if annotation is inspect.Parameter.empty else _untyped(what, annotation, names, package)
        if untyped is not None:
            found.append(untyped)
    return tuple(found)


def _untyped(what: str, annotation: Any, names: dict[str, Any], package: str) -> Untyped | None:
    try:
        evaluate(annotation, names)
    except Exception as error:  # noqa: BLE001  # of whatever kind, the annotation means nothing
        problem = f"{what}, {annotation!r}, cannot be evaluated: {error}. Values there stay as JSON has them."
        hint = "Import the name at run time too, not only under TYPE_CHECKING; a class may not stand in a function."
        return Untyped(problem, hint)
    if is_plain(annotation):
        return None
    if not has_pydantic():
        problem = f"{what}, {shown(annotation)}, needs pydantic. Values there stay as JSON has them."
        return Untyped(problem, f"Install pydantic, as with {package}[pydantic].")
    found = unfinished(annotation)
    if found is None:
        return None
    problem, is_fatal = found
    if is_fatal:
        hint = "Where the class is defined, import what it names at run time too, not only under TYPE_CHECKING."
        return Untyped(f"{what}, {shown(annotation)}, cannot be used: {problem}. No value fits there.", hint, True)
    hint = "Take that of typing_extensions."
    return Untyped(f"{what}, {shown(annotation)}: {problem}. Values there stay as JSON has them.", hint)
