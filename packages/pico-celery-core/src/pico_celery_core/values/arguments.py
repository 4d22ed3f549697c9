"""Arguments: the codecs of a signature's parameters, for the arguments of a message."""

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from pico_celery_core.values.codec import Codec, LossyError, MisfitError, codec_of

_Convert = Callable[[Codec, Any, bool], Any]

_NOTHING: Final = object()


class ArgumentError(Exception):
    """An argument does not fit its parameter, or is not the same after its way through JSON.

    Args:
        argument: The parameter's name.
        problem: What is wrong with it; empty if it fits, and is lossy.
        value: The argument.
    """

    def __init__(self, argument: str, problem: str, value: Any) -> None:
        super().__init__(argument, problem)
        self.argument = argument
        self.problem = problem
        self.value = value

    def __str__(self) -> str:
        return f"the argument {self.argument!r}: {self.problem}"


class ArgumentCodecs:
    """Turns the arguments of a call into plain data, and those of a message into what a handler has declared.

    Args:
        signature: The signature of a stub or a handler, as `message_signature` returns it.
        sensitive: The parameters whose values no error shows.

    Example:
        >>> from datetime import date, timedelta
        >>> def remind(day: date, before: timedelta): ...
        >>> codecs = ArgumentCodecs(inspect.signature(remind), ())
        >>> codecs.dump((date(2026, 1, 2),), {"before": timedelta(hours=1)})
        ((datetime.date(2026, 1, 2),), {'before': 'PT1H'})
    """

    def __init__(self, signature: inspect.Signature, sensitive: Collection[str]) -> None:
        self._sensitive = frozenset(sensitive)
        self._defaults: dict[str, Any] = {}
        self._named: dict[str, Codec] = {}
        self._positional: list[tuple[str, Codec | None]] = []
        self._more: tuple[str, Codec | None] = "", None
        self._other: tuple[str, Codec | None] = "", None
        for name, parameter in signature.parameters.items():
            codec = codec_of(parameter.annotation)
            if parameter.kind is parameter.VAR_POSITIONAL:
                self._more = name, codec
            elif parameter.kind is parameter.VAR_KEYWORD:
                self._other = name, codec
            else:
                if parameter.kind is not parameter.KEYWORD_ONLY:
                    self._positional.append((name, codec))
                if codec is not None and parameter.kind is not parameter.POSITIONAL_ONLY:
                    self._named[name] = codec
                if parameter.default is not parameter.empty:
                    self._defaults[name] = parameter.default
        self._keywords = {p.name for p in signature.parameters.values() if p.kind is not p.POSITIONAL_ONLY}
        codecs = [codec for _, codec in (*self._positional, self._more, self._other)]
        self._codecs = [codec for codec in (*codecs, *self._named.values()) if codec is not None]

    @property
    def has_any(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._codecs)

    def compile(self) -> None:
        """Compile all codecs now, rather than when they are first needed."""
        for codec in self._codecs:
            codec.compile()

    def dump(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], left_open: object = _NOTHING
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return a call's arguments as plain data.

        Args:
            args: The positional arguments.
            kwargs: The keyword arguments.
            left_open: What stands for an argument that is not known yet.

        Raises:
            ArgumentError: If one does not fit, or would not arrive as it is.
        """
        return self._converted(Codec.dump, args, kwargs, left_open)

    def load(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return a message's arguments as values of the declared types.

        Raises:
            ArgumentError: If one does not fit.
        """
        return self._converted(Codec.load, args, kwargs, _NOTHING)

    def _converted(
        self, convert: _Convert, args: tuple[Any, ...], kwargs: Mapping[str, Any], left_open: object
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if not self._codecs:
            return args, dict(kwargs)
        # Most arguments are of plain types, and are left as they are.
        positional = self._positional
        known = len(positional)
        converted: list[Any] | None = None
        for index, value in enumerate(args):
            name, codec = positional[index] if index < known else self._more
            if codec is not None and type(value) not in codec.exact and value is not left_open:
                converted = list(args) if converted is None else converted
                converted[index] = self._one(convert, name, codec, value)
        named = dict(kwargs)
        for name, value in kwargs.items():
            codec = self._named.get(name) if name in self._keywords else self._other[1]
            if codec is not None and type(value) not in codec.exact and value is not left_open:
                named[name] = self._one(convert, name, codec, value)
        return args if converted is None else tuple(converted), named

    def _one(self, convert: _Convert, name: str, codec: Codec, value: Any) -> Any:
        try:
            return convert(codec, value, name in self._sensitive or self._is_other(name))
        except MisfitError as misfit:
            # A default need not be of the parameter's type: None often is not.
            if name in self._defaults and _equal(self._defaults[name], value):
                return value
            raise ArgumentError(name, misfit.problem, value) from None
        except LossyError as lossy:
            raise ArgumentError(name, "", value) from lossy.__cause__

    def _is_other(self, name: str) -> bool:
        """Tell whether a name is one of `**kwargs` that are sensitive as a whole."""
        return self._other[0] in self._sensitive and name not in self._keywords


def _equal(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)
