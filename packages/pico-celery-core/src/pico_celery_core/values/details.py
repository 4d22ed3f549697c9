"""The details of a task's progress, as plain data and of a type again."""

import importlib
from typing import Any, Final

from pico_celery_core.progress import Progress
from pico_celery_core.values.codec import has_pydantic
from pico_celery_core.values.returned import ReturnedValue

# Nothing is declared of what is in them.
_CONTAINERS: Final = (list, tuple, set, frozenset, dict)
_PLAIN: Final = (type(None), bool, int, float, str)


def plain_details(task: str, details: Any) -> Any:
    """Return details as plain data, by their own type, as no annotation says any.

    Args:
        task: The task's name.
        details: What the handler tells.

    Raises:
        ResultTypeError: If they would not arrive as they are.

    Example:
        >>> from datetime import timedelta
        >>> plain_details("reports.build", {"left": timedelta(seconds=90)})
        {'left': 'PT1M30S'}
    """
    kind = type(details)
    if kind in _PLAIN or not has_pydantic():
        return details
    declared = None if kind in _CONTAINERS else ReturnedValue.of(task, kind, "handler")
    if declared is not None:
        return declared.dump(details)
    try:
        return importlib.import_module("pydantic_core").to_jsonable_python(details)
    except ValueError:  # left to the serializer
        return details


def revived(step: Progress[Any], task: str, details: Any) -> Progress[Any]:
    """Return a step of progress with details of a type.

    Args:
        step: The step, whose details are plain data.
        task: The task's name.
        details: The type.

    Raises:
        ResultTypeError: If they do not fit.
    """
    declared = None if step.details is None else ReturnedValue.of(task, details, "reader")
    if declared is None:
        return step
    return Progress(step.current, step.total, step.message, declared.load(step.details))
