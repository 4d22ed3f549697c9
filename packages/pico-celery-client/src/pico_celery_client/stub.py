"""What is known of a stub before it is called."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from celery.utils.saferepr import saferepr

from pico_celery_core.contract.signatures import bare, bind, message_signature
from pico_celery_core.errors import CallError, LossyModelError
from pico_celery_core.metadata import SendSpec, send_spec, stubs
from pico_celery_core.options import TYPED
from pico_celery_core.sensitive import MASK, is_sensitive
from pico_celery_core.values.arguments import ArgumentCodecs, ArgumentError
from pico_celery_core.values.returned import ReturnedValue
from pico_celery_core.values.untyped import Untyped, untyped_annotations

Arguments = tuple[tuple[Any, ...], dict[str, Any]]

_MAX_CACHED_SHAPES: Final = 64
_VARIADIC: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)

# Stands for an argument that is left open.
_OPEN: Final = object()


@dataclass(frozen=True, slots=True)
class Stub:
    """A `@send_task` method.

    Args:
        name: Its qualified name.
        spec: What `@send_task` says of it.
        signature: What calls have to fit.
        sensitive: The parameters whose arguments must not be shown.
        is_async: Whether it is awaited.
        codecs: What makes plain data of the arguments.
        returned: What makes the declared value of the task's result; None where the stub declares none.
    """

    name: str
    spec: SendSpec
    signature: inspect.Signature
    sensitive: frozenset[str]
    is_async: bool
    codecs: ArgumentCodecs
    returned: ReturnedValue | None
    _added: dict[tuple[Any, ...], Arguments] = field(default_factory=dict, init=False, compare=False, repr=False)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, typed: bool = True) -> Arguments:
        """Return a message's arguments: the call's, with the defaults it leaves out, as plain data.

        Args:
            args: The call's positional arguments.
            kwargs: The call's keyword arguments.
            typed: Whether the annotations say what the arguments are. Else only pydantic models become plain data.

        Raises:
            CallError: If the call does not fit the stub.
            LossyModelError: If a value does not round-trip through JSON.
        """
        # Whether a call fits, and what it leaves out, depends on its shape alone; `inspect` takes longer to find out
        # than all else that is done here.
        shape = (len(args), *kwargs)
        added = self._added.get(shape)
        if added is None:
            added = self._missing_defaults(args, kwargs)
            if len(self._added) < _MAX_CACHED_SHAPES:
                self._added[shape] = added
        positional, keywords = added
        args, kwargs = (*args, *positional), {**kwargs, **keywords}
        if typed:
            args, kwargs = self._dumped_arguments(args, kwargs)
        return self._plain(args, kwargs)

    def bind_partial(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, typed: bool = True) -> Arguments:
        """Return the arguments of a message whose first one is not known yet, as that of a task that another calls.

        Args:
            args: The positional arguments after the first.
            kwargs: The keyword arguments.
            typed: Whether the annotations say what the arguments are.

        Raises:
            CallError: If the call does not fit the stub, whatever comes before it.
            LossyModelError: If a model does not round-trip through JSON.
        """
        optional = [
            p.replace(default=_OPEN) if p.default is p.empty and p.kind not in _VARIADIC else p
            for p in self.signature.parameters.values()
        ]
        try:
            positional, keywords = bind(self.signature.replace(parameters=optional), (_OPEN, *args), kwargs)
        except TypeError as error:
            raise self._call_error(f"{error}, where the result of another task comes first") from None
        if typed:
            positional, keywords = self._dumped_arguments(positional, keywords)
        positional, keywords = self._plain(positional, keywords)
        # What has no default may be left open as well.
        given = tuple(value for value in positional if value is not _OPEN)
        return given, {name: value for name, value in keywords.items() if value is not _OPEN}

    def shown(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], limits: Mapping[str, Any]) -> dict[str, str]:
        """Return the options that say how the arguments are shown, if some are sensitive.

        Args:
            args: A message's positional arguments.
            kwargs: A message's keyword arguments.
            limits: How much Celery shows: its `saferepr`'s `maxlen` and `maxlevels`.
        """
        if not self.sensitive:
            return {}
        named = self.named(args, kwargs)
        masked = [MASK if name in self.sensitive else value for name, value in named]
        keywords = dict(zip(kwargs, masked[len(args) :], strict=True))
        return {
            "argsrepr": saferepr(tuple(masked[: len(args)]), **limits),
            "kwargsrepr": saferepr(keywords, **limits),
        }

    def named(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[tuple[str, Any]]:
        """Return a message's arguments in their order, each with the name of its parameter."""
        parameters = self.signature.parameters.values()
        positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        variadic = {p.kind: p.name for p in parameters}
        rest = variadic.get(inspect.Parameter.VAR_POSITIONAL, "")
        other = variadic.get(inspect.Parameter.VAR_KEYWORD, "")
        named = [(positional[i] if i < len(positional) else rest, value) for i, value in enumerate(args)]
        known = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        return named + [(name if name in known else other, value) for name, value in kwargs.items()]

    def _missing_defaults(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Arguments:
        try:
            positional, keywords = bind(self.signature, args, kwargs)
        except TypeError as error:
            raise self._call_error(str(error)) from None
        return positional[len(args) :], {name: value for name, value in keywords.items() if name not in kwargs}

    def _call_error(self, problem: str) -> CallError:
        call = f"{self.name.rpartition('.')[2]}{self._shown_signature()}"
        return CallError(self.name, self.spec.name, problem, call)

    def _dumped_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        try:
            return self.codecs.dump(args, kwargs, left_open=_OPEN)
        except ArgumentError as error:
            if error.problem:
                raise self._call_error(f"the argument {error.argument!r} does not fit: {error.problem}") from None
            kind = type(error.value).__qualname__
            raise LossyModelError(self.name, self.spec.name, error.argument, kind, "json") from error.__cause__

    def _plain(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        # Celery does this for tasks that the sender knows; here only their stubs are known.
        if not any(map(_is_model, (*args, *kwargs.values()))):
            return args, kwargs
        plain = [self._dumped(name, value) if _is_model(value) else value for name, value in self.named(args, kwargs)]
        return tuple(plain[: len(args)]), dict(zip(kwargs, plain[len(args) :], strict=True))

    def _dumped(self, argument: str, model: Any) -> Any:
        """Return a model as plain data that makes an equal one again."""
        kind = type(model)
        problem: Exception | None = None
        for by_alias in (True, False):
            try:
                dumped = model.model_dump(mode="json", by_alias=by_alias, round_trip=True)
                if kind.model_validate(dumped) == model:
                    return dumped
            except Exception as error:  # noqa: BLE001  # the model's own serializers and validators run here
                problem = problem or error
        # What pydantic says shows values.
        cause = None if argument in self.sensitive else problem
        raise LossyModelError(self.name, self.spec.name, argument, kind.__qualname__, "json") from cause

    def _shown_signature(self) -> inspect.Signature:
        parameters = []
        for parameter in self.signature.parameters.values():
            if parameter.name in self.sensitive and parameter.default is not parameter.empty:
                parameters.append(parameter.replace(annotation=bare(parameter.annotation), default=MASK))
            else:
                parameters.append(parameter.replace(annotation=bare(parameter.annotation)))
        return self.signature.replace(parameters=parameters)


@functools.cache
def stub_of(method: Callable[..., Any]) -> Stub | None:
    """Return what is known of a method as a stub, or None if it is none."""
    spec = send_spec(method)
    if spec is None:
        return None
    signature = message_signature(method)
    sensitive = {name for name, parameter in signature.parameters.items() if is_sensitive(parameter.annotation)}
    is_async = inspect.iscoroutinefunction(method)
    codecs = ArgumentCodecs(signature, sensitive)
    returned = ReturnedValue.of(spec.name, signature.return_annotation)
    return Stub(method.__qualname__, spec, signature, frozenset(sensitive), is_async, codecs, returned)


def untyped_stubs(cls: type, *, typed: bool) -> Iterator[tuple[str, Untyped]]:
    """Yield the annotations of a class's stubs that say a type which values do not get, each with the stub's name.

    Args:
        cls: The class.
        typed: Whether values get the types that annotations say, where a stub does not say that itself.
    """
    for name, spec in stubs(cls):
        option = spec.options.get(TYPED)
        if typed if option is None else option:
            for untyped in untyped_annotations(getattr(cls, name), "pico-celery-client"):
                yield f"{cls.__module__}.{cls.__qualname__}.{name}", untyped


def _is_model(value: Any) -> bool:
    kind = type(value)
    return hasattr(kind, "model_dump") and not hasattr(kind, "__json__")
