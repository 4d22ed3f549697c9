"""The arguments of a handler, as they are typed on a command line."""

import inspect
import json
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any, Final

from pico_celery_core.contract.signatures import bare
from pico_celery_core.sensitive import is_sensitive
from pico_celery_core.values.codec import MisfitError, codec_of

_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NAMED: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_UNIONS: Final = (typing.Union, types.UnionType)
_SCALARS: Final = (bool, int, float)


class ArgumentsError(ValueError):
    """What was typed does not fit a handler."""


def parsed(signature: inspect.Signature, words: Sequence[str]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Read a command line as the arguments of a handler.

    A word is an argument by its position, and `--name word` or `--name=word` one by its name, with - for _. `--name`
    and `--no-name` are enough for a bool. After `--` all words are arguments by their positions.

    Args:
        signature: What a message's arguments have to fit.
        words: What was typed.

    Returns:
        The positional and the keyword arguments, of the annotated types.

    Raises:
        ArgumentsError: If they do not fit. It names the argument.

    Example:
        >>> def confirm(order: int, email: str, urgent: bool = False): ...
        >>> parsed(inspect.signature(confirm), ["7", "--email", "ada@shop.example", "--urgent"])
        ((7,), {'email': 'ada@shop.example', 'urgent': True})
    """
    positional, named = _split(signature, words)
    parameters = [p for p in signature.parameters.values() if p.kind in _POSITIONAL]
    more = next((p for p in signature.parameters.values() if p.kind is p.VAR_POSITIONAL), None)
    if len(positional) > len(parameters) and more is None:
        word = positional[len(parameters)]
        raise ArgumentsError(f"there is no parameter for {word!r}: it takes {len(parameters)} by position at most")
    args = tuple(
        _value(parameters[index] if index < len(parameters) else typing.cast("inspect.Parameter", more), word)
        for index, word in enumerate(positional)
    )
    kwargs = {name: value if isinstance(value, bool) else _value(parameter, value) for name, parameter, value in named}
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise ArgumentsError(str(error)) from None
    return args, kwargs


def described(signature: inspect.Signature) -> Iterator[tuple[str, str]]:
    """Describe the parameters of a handler: how each is typed, and of what type and default it is.

    Args:
        signature: What a message's arguments have to fit.
    """
    for parameter in signature.parameters.values():
        name = parameter.name.replace("_", "-")
        is_flag = bare(parameter.annotation) is bool
        shown = parameter.name.upper()
        typed = f"--{name} / --no-{name}" if is_flag else f"--{name} {shown}"
        if parameter.kind is parameter.POSITIONAL_ONLY:
            typed = shown
        elif parameter.kind is parameter.VAR_POSITIONAL:
            typed = f"[{shown}]..."
        elif parameter.kind is parameter.VAR_KEYWORD:
            typed = f"[--NAME {shown}]..."
        annotation = parameter.annotation
        kind = "" if annotation is parameter.empty else inspect.formatannotation(bare(annotation))
        default = "required"
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            default = ""
        elif parameter.default is not parameter.empty:
            default = "has a default" if is_sensitive(annotation) else f"default: {parameter.default!r}"
        yield typed, "; ".join(filter(None, (kind, default)))


def _split(
    signature: inspect.Signature, words: Sequence[str]
) -> tuple[list[str], list[tuple[str, inspect.Parameter, str | bool]]]:
    positional: list[str] = []
    named: dict[str, tuple[inspect.Parameter, str | bool]] = {}
    left = list(words)
    while left:
        word = left.pop(0)
        if word == "--":
            positional += left
            break
        if not word.startswith("--"):
            positional.append(word)
            continue
        option, has_value, text = word.partition("=")
        name, parameter, is_off = _named(signature, option)
        value: str | bool = text
        if is_off:
            value = False
        elif not has_value and bare(parameter.annotation) is bool:
            value = True
        elif not has_value:
            if not left:
                raise ArgumentsError(f"{option} needs a value")
            value = left.pop(0)
        if name in named:
            raise ArgumentsError(f"{option} is there twice")
        named[name] = parameter, value
    return positional, [(name, *given) for name, given in named.items()]


def _named(signature: inspect.Signature, option: str) -> tuple[str, inspect.Parameter, bool]:
    """Return whom an option stands for, its parameter, and whether it switches that off."""
    name = option.removeprefix("--").replace("-", "_")
    known = {p.name: p for p in signature.parameters.values() if p.kind in _NAMED}
    if name in known:
        return name, known[name], False
    off = known.get(name.removeprefix("no_"))
    if off is not None and name.startswith("no_") and bare(off.annotation) is bool:
        return off.name, off, True
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            return name, parameter, False
    there = ", ".join(f"--{name.replace('_', '-')}" for name in known) or "none"
    raise ArgumentsError(f"there is no parameter {option}. There are: {there}")


def _value(parameter: inspect.Parameter, word: str) -> Any:
    """Return a word as a value of a parameter's type: as text, or as the JSON that it is."""
    annotation = bare(parameter.annotation)
    candidates: list[Any] = [] if annotation is str else list(_json(word))
    if str in _members(annotation):
        candidates = [value for value in candidates if value is None]
    codec = None if annotation is parameter.empty else codec_of(parameter.annotation)
    problem = ""
    for value in (*candidates, word):
        try:
            return (
                _scalar(annotation, value) if codec is None else codec.load(value, is_sensitive(parameter.annotation))
            )
        except (MisfitError, ValueError) as error:
            problem = problem or str(error)
    raise ArgumentsError(f"the argument {parameter.name!r} does not fit: {problem}")


def _json(word: str) -> Iterator[Any]:
    try:
        yield json.loads(word)
    except ValueError:
        return


def _scalar(annotation: Any, value: Any) -> Any:
    """Check a value where pydantic, which knows all types, is not installed."""
    if annotation in _SCALARS and not (type(value) is annotation or (annotation is float and type(value) is int)):
        raise ValueError(f"it is no {annotation.__name__}")
    return value


def _members(annotation: Any) -> tuple[Any, ...]:
    return typing.get_args(annotation) if typing.get_origin(annotation) in _UNIONS else ()
