"""Whether the calls of a stub fit its handler."""

import inspect
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pico_celery_core.contract.annotations import accepts

_VARIADIC: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_KEYWORD: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True)
class Incompatibility:
    """A way to call a stub whose message does not fit the handler.

    Args:
        call: The call's arguments, such as "(order, email=...)".
        problem: Why it does not fit.
    """

    call: str
    problem: str

    def __str__(self) -> str:
        return f"{self.call} does not fit: {self.problem}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the signatures of a stub and a handler have in common.

    Args:
        agrees: Whether any call of the stub fits the handler.
        incompatibilities: Calls of the stub that do not fit the handler, whatever their values.
        surplus: A call that only the stub's `*args` or `**kwargs` let pass, and that does not fit the handler.
        differences: Where they fit, but promise something else: other annotations, other defaults.
    """

    agrees: bool
    incompatibilities: tuple[Incompatibility, ...] = ()
    surplus: Incompatibility | None = None
    differences: tuple[str, ...] = ()


def compare(stub: inspect.Signature, handler: inspect.Signature) -> Comparison:
    """Compare the signature of a stub with that of the handler that gets its messages.

    A message carries a value for each of the stub's parameters, its defaults included: so what remains to vary is how
    many of them come by position, and what `*args` and `**kwargs` add.

    Args:
        stub: The stub's signature, as `message_signature` returns it.
        handler: The handler's signature, as `message_signature` returns it.

    Example:
        >>> from pico_celery_core.contract.signatures import message_signature
        >>> def stub(self, to, copies=1): ...
        >>> async def handler(self, to): ...
        >>> comparison = compare(message_signature(stub), message_signature(handler))
        >>> comparison.agrees, str(comparison.incompatibilities[0])
        (False, '(to, copies) does not fit: too many positional arguments')
    """
    calls = list(_calls(stub))
    incompatibilities: list[Incompatibility] = []
    surplus: Incompatibility | None = None
    partners: dict[str, str] = {}
    for call in calls:
        complete = call.completed(handler)
        problem = _problem(complete, stub, handler)
        if problem:
            incompatibilities.append(Incompatibility(str(call), problem))
            continue
        partners |= _partners(complete, stub, handler)
        for free in call.variations(handler):
            problem = _problem(free, stub, handler)
            surplus = surplus or (Incompatibility(str(free), problem) if problem else None)
    agrees = len(incompatibilities) < len(calls)
    differences = tuple(_differences(stub, handler, partners)) if agrees else ()
    return Comparison(agrees, tuple(incompatibilities), surplus, differences)


@dataclass(frozen=True, slots=True)
class _Call:
    """A message's shape. Each argument's value is its own name; those of `*args` and `**kwargs` begin with a star."""

    positional: tuple[str, ...]
    keywords: tuple[str, ...]
    takes_more: bool = False
    takes_keywords: bool = False

    def completed(self, handler: inspect.Signature) -> "_Call":
        """Return this call with what the handler needs besides, where the stub's `*args` and `**kwargs` let it pass."""
        parameters = list(handler.parameters.values())
        needed = [p for p in parameters if p.default is p.empty and p.kind not in _VARIADIC]
        call = self
        if self.takes_more:
            kinds = (inspect.Parameter.POSITIONAL_ONLY,) if self.takes_keywords else _POSITIONAL
            call = call.with_positional(sum(p.kind in kinds for p in needed) - len(self.positional))
        if self.takes_keywords:
            by_position = [p.name for p in parameters if p.kind in _POSITIONAL][: len(call.positional)]
            given = {*by_position, *call.keywords}
            call = call.with_keywords(*(p.name for p in needed if p.kind in _KEYWORD and p.name not in given))
        return call

    def variations(self, handler: inspect.Signature) -> Iterator["_Call"]:
        """Yield calls that use the stub's `*args` and `**kwargs` in ways the handler may not expect."""
        if self.takes_more or self.takes_keywords:
            yield self
        if self.takes_more:
            yield self.with_positional(len(handler.parameters) + 1)
        if self.takes_keywords:
            yield self.with_keywords("more")

    def with_positional(self, number: int) -> "_Call":
        return _Call((*self.positional, *["*args"] * number), self.keywords, self.takes_more, self.takes_keywords)

    def with_keywords(self, *names: str) -> "_Call":
        return _Call(self.positional, (*self.keywords, *names), self.takes_more, self.takes_keywords)

    def __str__(self) -> str:
        return f"({', '.join((*self.positional, *(f'{name}=...' for name in self.keywords)))})"


def _calls(stub: inspect.Signature) -> Iterator[_Call]:
    """Yield each shape that a message of the stub may have, `*args` and `**kwargs` left out."""
    parameters = stub.parameters.values()
    first = [p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_ONLY]
    either = [p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    last = [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    more, keywords = (any(p.kind is kind for p in parameters) for kind in _VARIADIC)
    for number in range(len(either), -1, -1):
        positional = (*first, *either[:number])
        yield _Call(positional, (*either[number:], *last), more and number == len(either), keywords)


def _problem(call: _Call, stub: inspect.Signature, handler: inspect.Signature) -> str:
    """Return why a message does not fit the handler, or an empty string."""
    try:
        bound = handler.bind(*call.positional, **{name: name for name in call.keywords})
    except TypeError as error:
        return str(error)
    for name, value in bound.arguments.items():
        variadic = handler.parameters[name].kind in _VARIADIC
        for argument in value if variadic else (value,):
            # A caller cannot name a stub's positional-only parameters; all others are sent by name.
            parameter, namesake = stub.parameters.get(argument), handler.parameters.get(argument)
            has_name = parameter is not None and parameter.kind in _KEYWORD
            if has_name and argument != name and namesake is not None and namesake.kind in _KEYWORD:
                return f"{argument!r} arrives as {name!r}"
    return ""


def _partners(call: _Call, stub: inspect.Signature, handler: inspect.Signature) -> dict[str, str]:
    """Return which parameter of the stub each parameter of the handler gets its value from."""
    bound = handler.bind(*call.positional, **{name: name for name in call.keywords}).arguments
    named = {name: value for name, value in bound.items() if handler.parameters[name].kind not in _VARIADIC}
    return {name: value for name, value in named.items() if value in stub.parameters}


def _differences(stub: inspect.Signature, handler: inspect.Signature, partners: Mapping[str, str]) -> Iterator[str]:
    for name, partner in partners.items():
        sent, expected = stub.parameters[partner], handler.parameters[name]
        if not accepts(expected.annotation, sent.annotation):
            here, there = map(inspect.formatannotation, (sent.annotation, expected.annotation))
            yield f"{partner!r} is {here} in the stub and {there} in the handler"
        if _differ(sent.default, expected.default):
            yield (
                f"{partner!r} defaults to {sent.default!r} in the stub, which is what is sent, "
                f"and to {expected.default!r} in the handler"
            )
    promised, returned = stub.return_annotation, handler.return_annotation
    if promised is not None and not _is_result(promised) and not accepts(promised, returned):
        here, there = map(inspect.formatannotation, (promised, returned))
        yield f"the stub promises {here}, and the handler returns {there}"


def _differ(sent: Any, expected: Any) -> bool:
    if sent is inspect.Parameter.empty or expected is inspect.Parameter.empty:
        return False
    try:
        return bool(sent != expected)
    except Exception:  # noqa: BLE001  # a value that cannot be compared is not known to differ
        return False


def _is_result(annotation: Any) -> bool:
    """Tell whether a stub declares the handle it returns, rather than the value of the task."""
    cls = typing.get_origin(annotation) or annotation
    return any(base.__name__ == "AsyncResult" for base in getattr(cls, "__mro__", ()))
