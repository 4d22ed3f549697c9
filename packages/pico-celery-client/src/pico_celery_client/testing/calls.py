"""The calls that a test has sent, and how they are printed."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pico_celery_client.client import CeleryClient
from pico_celery_client.stub import Stub, stub_of
from pico_celery_core.errors import DeclarationError
from pico_celery_core.metadata import stubs


@dataclass(frozen=True, slots=True)
class Call:
    """A task that was sent. Two calls are equal if the same was sent, whatever their ids.

    Args:
        task: The task's name.
        args: The positional arguments, as the handler gets them: a tuple among them has become a list in JSON.
        kwargs: The keyword arguments, the stub's defaults among them.
        options: What it was sent with, such as `queue` and `countdown` (seconds).
        id: The task's id, which its result has as well.
        arguments: All arguments by the names of the stub's parameters, where the call was asked for by its stub.
    """

    task: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    id: str = field(default="", compare=False)
    arguments: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        return f"{self.task}{described(self.args, self.kwargs)}"


def stub_behind(method: Callable[..., Any]) -> Stub:
    """Return what is known of a client's method.

    Raises:
        TypeError: If it is not a stub.
    """
    function = inspect.unwrap(method)
    function = getattr(function, "__func__", function)
    stub = stub_of(function)
    if stub is None:
        hint = "Give it a method of a client, such as client.confirm."
        raise DeclarationError("RecordingCelery", function.__qualname__, "it is not a @send_task stub", hint)
    return stub


def named_arguments(stub: Stub, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message's arguments by the names of a stub's parameters, the defaults included.

    Raises:
        TypeError: If they do not fit.
    """
    bound = stub.signature.bind(*args, **kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)


def task_name(task: str | Callable[..., Any]) -> str:
    """Return a task's name, given that or a stub that sends it."""
    return task if isinstance(task, str) else stub_behind(task).spec.name


def declared_tasks() -> set[str]:
    """Return the names of the tasks that a client of this process could send."""
    return {spec.name for client in _subclasses(CeleryClient) for _, spec in stubs(client)}


def described(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return arguments as they stand in a call."""
    return f"({', '.join([*map(repr, args), *(f'{name}={value!r}' for name, value in kwargs.items())])})"


def _subclasses(cls: type) -> Iterator[type]:
    subclasses: list[type] = type.__subclasses__(cls)
    for subclass in subclasses:
        yield subclass
        yield from _subclasses(subclass)
