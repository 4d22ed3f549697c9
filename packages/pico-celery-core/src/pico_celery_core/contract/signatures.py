"""The contract between a stub and a handler: the signatures that a call and its message have to fit."""

import builtins
import inspect
import typing
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Final

_VARIADIC: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def method_signature(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of a method as its caller sees it: without `self`.

    Example:
        >>> def send(self, to: str, copies: int = 1): ...
        >>> str(method_signature(send))
        '(to: str, copies: int = 1)'
    """
    return _without_first(inspect.signature(function), 1)


def bare(annotation: Any) -> Any:
    """Return an annotation without what `Annotated` says beside it.

    Example:
        >>> from pico_celery_core import Sensitive
        >>> bare(typing.Annotated[str, Sensitive])
        <class 'str'>
    """
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is typing.Annotated else annotation


def message_signature(function: Callable[..., Any], *, bound: bool = False) -> inspect.Signature:
    """Return what a message's arguments have to fit: the signature without `self`, its annotations evaluated.

    Args:
        function: The method of a stub or a handler.
        bound: Whether the handler gets the task first, as Celery's `bind=True` says.

    Example:
        >>> async def send(self, task, to: "str"): ...
        >>> str(message_signature(send, bound=True))
        '(to: str)'
    """
    signature = _without_first(inspect.signature(function), 2 if bound else 1)
    names = names_around(function)
    return signature.replace(
        parameters=[p.replace(annotation=evaluated(p.annotation, names)) for p in signature.parameters.values()],
        return_annotation=evaluated(signature.return_annotation, names),
    )


def bind(
    signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Check a call against a signature and add the defaults it leaves out.

    Args:
        signature: The signature without `self`.
        args: Positional arguments of the call.
        kwargs: Keyword arguments of the call.

    Returns:
        The arguments in the shape the caller gave them, with the signature's defaults added.

    Raises:
        TypeError: If the call does not fit.

    Example:
        >>> def send(self, to, copies=1): ...
        >>> bind(method_signature(send), ("a@x",), {})
        (('a@x',), {'copies': 1})
    """
    bound = signature.bind(*args, **kwargs).arguments
    positional, keywords = list(args), dict(kwargs)
    for name, parameter in signature.parameters.items():
        if name in bound or parameter.kind in _VARIADIC:
            continue
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            positional.append(parameter.default)
        else:
            keywords[name] = parameter.default
    return tuple(positional), keywords


def evaluated(annotation: Any, names: Mapping[str, Any]) -> Any:
    """Return what an annotation means that is text or has text in it; itself, where that cannot be known.

    Args:
        annotation: The annotation.
        names: What the names in it mean.

    Example:
        >>> evaluated("list[Order]", {"Order": int})
        list[int]
    """
    try:
        return evaluate(annotation, names)
    except Exception:  # noqa: BLE001  # the name is imported for type checkers only, or stands in a function
        return annotation


def evaluate(annotation: Any, names: Mapping[str, Any], *, include_extras: bool = True) -> Any:
    """Return what an annotation means that is text or has text in it.

    Args:
        annotation: The annotation.
        names: What the names in it mean.
        include_extras: Whether to keep what stands behind the type in `Annotated`.

    Raises:
        Exception: If it cannot be evaluated, as of a name that is imported for type checkers only.
    """
    holder: Any = SimpleNamespace(__annotations__={"it": annotation})
    hint = typing.get_type_hints(holder, globalns=dict(names), include_extras=include_extras)["it"]
    return None if hint is type(None) else hint


def names_around(function: Callable[..., Any]) -> dict[str, Any]:
    """Return what the names in a method's annotations mean: its module's, then those of the classes it stands in."""
    function = inspect.unwrap(function)
    scope: Mapping[str, Any] = getattr(function, "__globals__", {})
    names = {**vars(builtins), **scope}
    for name in function.__qualname__.split(".")[:-1]:
        scope = getattr(scope.get(name), "__dict__", {})  # empty below a function, whose names are gone
        names = {**scope, **names}
    return names


def _without_first(signature: inspect.Signature, number: int) -> inspect.Signature:
    """Leave out the first positional parameters, unless `*args` takes them."""
    parameters = list(signature.parameters.values())
    while number and parameters and parameters[0].kind in _POSITIONAL:
        del parameters[0]
        number -= 1
    return signature.replace(parameters=parameters)
