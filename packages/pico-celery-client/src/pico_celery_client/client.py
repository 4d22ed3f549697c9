"""CeleryClient and `@celery`: a class whose stubs send tasks, as a component of the container."""

import copy
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypedDict, TypeVar, Unpack, cast, overload

from pico_ioc import UnifiedComponentProxy, component

from pico_celery_client.interceptor import SEND_OPTIONS, CeleryClientInterceptor
from pico_celery_core import _pico_ioc as access
from pico_celery_core.errors import DeclarationError, EmptyClientError
from pico_celery_core.metadata import handlers, stubs
from pico_celery_core.options import SendOptions, check_send_options
from pico_celery_core.sender import INTERCEPTOR

_C = TypeVar("_C")


class ComponentOptions(TypedDict, total=False):
    """What pico-ioc's `@component` takes, and `@celery` as well."""

    name: Any
    qualifiers: Iterable[str]
    scope: str
    primary: bool
    lazy: bool
    conditional_profiles: Iterable[str]
    conditional_require_env: Iterable[str]
    conditional_predicate: Callable[[], bool] | None
    on_missing_selector: object | None
    on_missing_priority: int


class CeleryClient(Protocol):
    """What every client is: a class of stubs. Inherit from it to say so.

    Example:
        >>> from pico_celery import CeleryClient, celery, send_task
        >>> @celery
        ... class Greeter(CeleryClient):
        ...     @send_task("greetings.hello")
        ...     def hello(self, name: str) -> str: ...
    """


@overload
def celery(cls: type[_C], /) -> type[_C]: ...


@overload
def celery(**component_options: Unpack[ComponentOptions]) -> Callable[[type[_C]], type[_C]]: ...


def celery(cls: type[_C] | None = None, /, **component_options: Unpack[ComponentOptions]) -> Any:
    """Make a class with `@send_task` stubs a component whose stubs send tasks.

    Args:
        cls: The class, where the decorator stands without parentheses.
        **component_options: What pico-ioc's `@component` takes, such as `scope`, `name`, `qualifiers`, `primary`.

    Returns:
        The class itself.

    Raises:
        ValueError: If the class has neither a `@send_task` nor a `@task` method.
        TypeError: If it stands on anything but a class.

    Example:
        >>> from pico_celery import CeleryClient, celery, send_task
        >>> @celery(scope="prototype")
        ... class Greeter(CeleryClient):
        ...     @send_task("greetings.hello")
        ...     def hello(self, name: str) -> str: ...
    """

    def decorate(target: Any) -> Any:
        if not inspect.isclass(target):
            name = getattr(target, "__qualname__", repr(target))
            raise DeclarationError("@celery", name, "it is not a class", "Move @celery to the class of the stubs.")
        names = [name for name, _ in stubs(target)]
        if names:
            _connect(target, names)
        elif not any(handlers(target)):
            raise EmptyClientError(target.__qualname__)
        return component(**component_options)(target)

    return decorate if cls is None else decorate(cls)


def with_options(client: _C, /, **options: Unpack[SendOptions]) -> _C:
    """Return a client like this one whose messages are sent with further options.

    Options given here win over those of `@send_task`; the client itself stays as it is.

    Args:
        client: A client taken from the container.
        **options: What Celery's `send_task` takes, such as `countdown` (seconds), `priority`, `headers`; see
            `SendOptions`.

    Returns:
        A client of the same type.

    Raises:
        TypeError: If Celery does not know an option, or if no client is given, but its class, for instance.

    Example:
        >>> from pico_celery import with_options
        >>> def remind(client, user: str):
        ...     return with_options(client, countdown=3600).send_reminder(user)
    """
    if inspect.isclass(client):
        hint = f"Give it a client: inject one, or take it with container.get({client.__name__})."
        raise DeclarationError("with_options()", client.__qualname__, "it is a class", hint)
    clone = copy.copy(client)
    if not hasattr(clone, "__dict__"):
        hint = "Give it a client: inject one, or take it with container.get()."
        raise DeclarationError("with_options()", repr(client), "it is not a client", hint)
    present = vars(clone).get(SEND_OPTIONS, {})
    check_send_options("with_options()", options, present, *(spec.options for _, spec in stubs(type(clone))))
    vars(clone)[SEND_OPTIONS] = {**present, **options}
    # The copy of a container's proxy is the client behind it; the application's own interceptors belong in front again.
    proxy: Any = client
    if isinstance(proxy, UnifiedComponentProxy):
        return cast("_C", access.same_proxy(proxy, clone))
    return clone


def _connect(cls: type, names: list[str]) -> None:
    if not cls.__dictoffset__:
        problem, hint = "its instances have no __dict__", "Leave out __slots__, or inherit from CeleryClient."
        raise DeclarationError("@celery", cls.__qualname__, problem, hint)
    for name in names:
        stub = getattr(cls, name)
        if access.has_interceptors(stub) and not inspect.iscoroutinefunction(stub):
            problem = "pico-ioc refuses what it returns, a TaskResult, where @intercepted_by stands on a plain method"
            raise DeclarationError("@celery", stub.__qualname__, problem, "Make the stub `async def`, and await it.")
    _inject_interceptor(cls)


def _inject_interceptor(cls: type) -> None:
    """Add the interceptor to the parameters of `__init__`, so that the container injects it as any dependency."""
    # A protocol without `__init__` has a placeholder there, which stands before that of a base further back.
    placeholder = vars(CeleryClient)["__init__"]
    found = (vars(base).get("__init__", placeholder) for base in cls.__mro__)
    original: Callable[..., None] = next(init for init in found if init is not placeholder)
    if hasattr(original, INTERCEPTOR):
        return

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        interceptor = kwargs.pop(INTERCEPTOR, None)
        if interceptor is not None:
            vars(self)[INTERCEPTOR] = interceptor
            interceptor.look_at(type(self))
        original(self, *args, **kwargs)

    parameter = inspect.Parameter(INTERCEPTOR, inspect.Parameter.KEYWORD_ONLY, annotation=CeleryClientInterceptor)
    signature = inspect.signature(original)
    parameters = list(signature.parameters.values())
    variadic = [p for p in parameters if p.kind is inspect.Parameter.VAR_KEYWORD]
    parameters = [p for p in parameters if p not in variadic]
    vars(init)["__signature__"] = signature.replace(parameters=[*parameters, parameter, *variadic])
    init.__annotations__ = {**init.__annotations__, INTERCEPTOR: CeleryClientInterceptor}
    vars(init)[INTERCEPTOR] = True
    cls.__init__ = init  # type: ignore[misc]
