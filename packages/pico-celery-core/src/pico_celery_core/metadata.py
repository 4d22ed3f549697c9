"""What a decorator leaves on a function, and how it is read back."""

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from weakref import WeakSet

from pico_celery_core.errors import DeclarationError

TASK_ATTRIBUTE: Final = "__pico_celery_task__"
SEND_ATTRIBUTE: Final = "__pico_celery_send__"

# Every function that `@task` stands on, so that those can be found whose class no container knows.
_declared: Final[WeakSet[Callable[..., Any]]] = WeakSet()


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """A handler's task name and its Celery task options.

    Example:
        >>> TaskSpec("mail.send", {"max_retries": 5}).name
        'mail.send'
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SendSpec:
    """A stub's task name and the options each of its messages is sent with.

    Example:
        >>> SendSpec("mail.send", {"queue": "slow"}).options["queue"]
        'slow'
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


def declare_task(function: Callable[..., Any], spec: TaskSpec) -> None:
    """Leave on `function` what `@task` says of it."""
    setattr(function, TASK_ATTRIBUTE, spec)
    _declared.add(function)


def declaring_classes() -> dict[type, list[str]]:
    """Return the classes with `@task` methods that were imported, and the names of these tasks.

    A class that stands in a function is left out, for nothing leads from its method to it.
    """
    found: dict[type, list[str]] = {}
    for function in sorted(_declared, key=lambda function: (function.__module__, function.__qualname__)):
        owner: Any = sys.modules.get(function.__module__)
        *path, name = function.__qualname__.split(".")
        for part in path:
            owner = vars(owner).get(part) if hasattr(owner, "__dict__") else None
        if inspect.isclass(owner) and vars(owner).get(name) is function:
            found.setdefault(owner, []).append(getattr(function, TASK_ATTRIBUTE).name)
    return found


def task_spec(function: Callable[..., Any]) -> TaskSpec | None:
    """Return what `@task` left on `function`, or None."""
    spec: TaskSpec | None = getattr(function, TASK_ATTRIBUTE, None)
    return spec


def send_spec(function: Callable[..., Any]) -> SendSpec | None:
    """Return what `@send_task` left on `function`, or None."""
    spec: SendSpec | None = getattr(function, SEND_ATTRIBUTE, None)
    return spec


def handlers(cls: type) -> Iterator[tuple[str, TaskSpec]]:
    """Yield the name and spec of each `@task` method of `cls`, inherited ones included.

    Raises:
        DeclarationError: If one is a static or a class method.
    """
    yield from _marked(cls, TASK_ATTRIBUTE)


def stubs(cls: type) -> Iterator[tuple[str, SendSpec]]:
    """Yield the name and spec of each `@send_task` method of `cls`, inherited ones included.

    Raises:
        DeclarationError: If one is a static or a class method.
    """
    yield from _marked(cls, SEND_ATTRIBUTE)


def _marked(cls: type, attribute: str) -> Iterator[tuple[str, Any]]:
    for name, member in inspect.getmembers_static(cls, _is_method):
        spec = getattr(getattr(member, "__func__", member), attribute, None)
        if spec is None:
            continue
        if not inspect.isfunction(member):
            decorator = "@task" if attribute == TASK_ATTRIBUTE else "@send_task"
            raise static_method_error(f"{decorator}({spec.name!r})", member)
        yield name, spec


def _is_method(member: object) -> bool:
    return inspect.isfunction(member) or isinstance(member, (staticmethod, classmethod))


def static_method_error(decorator: str, method: "staticmethod[..., Any] | classmethod[Any, ..., Any]") -> Exception:
    """Return the error for a task that is not called on a component."""
    hint = "Make it a plain method with self: it is called on a component of the container."
    return DeclarationError(decorator, method.__func__.__qualname__, f"it is a {type(method).__name__}", hint)
