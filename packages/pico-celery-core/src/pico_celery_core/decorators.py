"""`@task` for handlers and `@send_task` for stubs: pure declarations, which import nothing of Celery."""

import inspect
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, Unpack, overload

from pico_celery_core.errors import DeclarationError, TaskNameError
from pico_celery_core.metadata import (
    SEND_ATTRIBUTE,
    TASK_ATTRIBUTE,
    SendSpec,
    TaskSpec,
    declare_task,
    static_method_error,
)
from pico_celery_core.options import PUBLISH_TIMEOUT, SendOptions, TaskOptions, check_send_options, check_task_options
from pico_celery_core.sender import sender

if TYPE_CHECKING:
    from pico_celery_client.results.result import TaskResult

_Self = TypeVar("_Self")
_P = ParamSpec("_P")
_R = TypeVar("_R")
_Handler = TypeVar("_Handler", bound=Callable[..., Coroutine[Any, Any, Any]])


class _StubDecorator(Protocol):
    """Gives a stub the type of what calling it returns: a `TaskResult` of the declared value."""

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a coroutine function is also a function; the first match wins
        self, stub: Callable[Concatenate[_Self, _P], Coroutine[Any, Any, _R]], /
    ) -> Callable[Concatenate[_Self, _P], Coroutine[Any, Any, "TaskResult[_R]"]]: ...

    @overload
    def __call__(
        self, stub: Callable[Concatenate[_Self, _P], _R], /
    ) -> Callable[Concatenate[_Self, _P], "TaskResult[_R]"]: ...


def task(name: str, **options: Unpack[TaskOptions]) -> Callable[[_Handler], _Handler]:
    """Declare an `async def` method of a component as the handler of a task.

    The worker resolves the component anew for each execution and awaits the method with the message's arguments.
    The method itself is returned unchanged, so a test can await it directly.

    Args:
        name: The task's name; the stub that sends it uses the same one.
        **options: Celery's task options, such as `max_retries`, `acks_late`, `queue`, `soft_time_limit` (seconds); see
            `TaskOptions`.

    Returns:
        A decorator that returns the method it is given.

    Raises:
        TypeError: If it stands on anything but an `async def` method, if the name is not a string, or if Celery does
            not know an option.
        ValueError: If the name is empty.

    Example:
        >>> class Greetings:
        ...     @task("greetings.hello", max_retries=3)
        ...     async def hello(self, name: str) -> str:
        ...         return f"Hello {name}"
    """
    _check_name("@task", name)
    check_task_options(f"@task({name!r})", options)
    spec = TaskSpec(name, dict(options))

    def declare(handler: _Handler) -> _Handler:
        _check_method("@task", name, handler)
        if not inspect.iscoroutinefunction(handler):
            problem = "it is an async generator" if inspect.isasyncgenfunction(handler) else "it is not async"
            hint = f"Write `async def {handler.__name__}(self, ...)`, and return one value."
            raise DeclarationError(f"@task({name!r})", _describe(handler), problem, hint)
        if hasattr(handler, TASK_ATTRIBUTE) or hasattr(handler, SEND_ATTRIBUTE):
            problem, hint = "it is a task already", "One method has one task name: write a second method."
            raise DeclarationError(f"@task({name!r})", _describe(handler), problem, hint)
        declare_task(handler, spec)
        return handler

    return declare


def send_task(name: str, **options: Unpack[SendOptions]) -> _StubDecorator:
    """Declare a method of a `@celery` client as a stub: calling it sends a task.

    The body never runs. The signature is the contract: a call that does not fit it is refused before anything is
    sent. A plain `def` stub sends at once and returns a `TaskResult`; an `async def` stub is awaited and sends without
    blocking the event loop.

    Args:
        name: The name of the task to send.
        **options: What Celery's `send_task` takes, such as `queue`, `countdown` (seconds), `priority`, `expires`; see
            `SendOptions`.

    Returns:
        A decorator that returns a method which sends.

    Raises:
        TypeError: If it stands on anything but a method, if the name is not a string, if Celery does not know an
            option, or if a plain stub has a `publish_timeout`.
        ValueError: If the name is empty.

    Example:
        >>> class Greeter:
        ...     @send_task("greetings.hello", queue="high_priority")
        ...     def hello(self, name: str) -> str: ...
    """
    _check_name("@send_task", name)
    check_send_options(f"@send_task({name!r})", options)
    spec = SendSpec(name, dict(options))

    def declare(stub: Any) -> Any:
        _check_method("@send_task", name, stub)
        if inspect.isgeneratorfunction(stub) or inspect.isasyncgenfunction(stub):
            problem, hint = "it is a generator", "A task has one result: let the stub be a plain method."
            raise DeclarationError(f"@send_task({name!r})", _describe(stub), problem, hint)
        if hasattr(stub, TASK_ATTRIBUTE) or hasattr(stub, SEND_ATTRIBUTE):
            problem, hint = "it is a task already", "One method has one task name: write a second method."
            raise DeclarationError(f"@send_task({name!r})", _describe(stub), problem, hint)
        if PUBLISH_TIMEOUT in options and not inspect.iscoroutinefunction(stub):
            problem = f"it is a plain method, and {PUBLISH_TIMEOUT} holds for `async def` stubs only"
            hint = f"Write `async def {stub.__name__}(self, ...)`, and await it."
            raise DeclarationError(f"@send_task({name!r})", _describe(stub), problem, hint)
        setattr(stub, SEND_ATTRIBUTE, spec)
        return sender(stub)

    return declare


def _check_name(decorator: str, name: object) -> None:
    if callable(name):
        hint = f'Write {decorator}("task.name") above it, with the task\'s name in parentheses.'
        raise DeclarationError(decorator, _describe(name), "the task's name is missing", hint)
    if not isinstance(name, str):
        hint = f'Write {decorator}("task.name").'
        raise DeclarationError(decorator, "a method", f"the task's name is {name!r}, not a string", hint)
    if not name.strip():
        raise TaskNameError(decorator, name)


def _check_method(decorator: str, name: str, target: object) -> None:
    where = f"{decorator}({name!r})"
    if inspect.isclass(target):
        hint = f"Move {decorator} to the method; the class itself is a component."
        raise DeclarationError(where, _describe(target), "it is a class", hint)
    if isinstance(target, (staticmethod, classmethod)):
        raise static_method_error(where, target)
    if not inspect.isfunction(target):
        raise DeclarationError(where, _describe(target), "it is not a method", f"Move {decorator} to a method.")
    owner = target.__qualname__.rpartition(".")[0]
    if (not owner or owner.endswith("<locals>")) and next(iter(inspect.signature(target).parameters), None) != "self":
        hint = "Make it a method of a component class: its dependencies come through that class's __init__."
        raise DeclarationError(where, _describe(target), "it is a function outside a class", hint)


def _describe(target: object) -> str:
    kind = "class " if inspect.isclass(target) else ""
    return kind + getattr(target, "__qualname__", repr(target))
