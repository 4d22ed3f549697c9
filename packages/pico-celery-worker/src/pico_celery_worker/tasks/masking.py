"""What is shown of arguments that a handler marks as sensitive: nothing.

Celery goes by two headers of a message when it shows the arguments, in logs, events and errors.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from celery.utils.saferepr import saferepr

from pico_celery_core.contract.signatures import message_signature
from pico_celery_core.sensitive import MASK, is_sensitive
from pico_celery_worker.container.handlers import Handler

ARGS: Final = "argsrepr"
KWARGS: Final = "kwargsrepr"

HIDDEN: Final[Mapping[str, str]] = {ARGS: MASK, KWARGS: MASK}
"""The headers of a message that shows none of its arguments."""


def is_masked(headers: Any) -> bool:
    """Tell whether something is masked among the arguments of a message with these headers."""
    return isinstance(headers, Mapping) and any(MASK in str(headers.get(name)) for name in HIDDEN)


class Mask:
    """What is sensitive among the parameters of a handler.

    Args:
        handler: The handler.
        **limits: How much is shown: what `saferepr` of Celery takes, `maxlen` and `maxlevels`.
    """

    def __init__(self, handler: Handler, **limits: Any) -> None:
        function = handler.function
        parameters = message_signature(function, bound=bool(handler.spec.options.get("bind"))).parameters.values()
        self.names = {parameter.name for parameter in parameters if is_sensitive(parameter.annotation)}
        self._limits = limits
        variadic = {parameter.kind: parameter.name for parameter in parameters}
        self._positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        self._named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        self._rest = next((name for kind, name in variadic.items() if kind.name == "VAR_POSITIONAL"), "")
        self._others = next((name for kind, name in variadic.items() if kind.name == "VAR_KEYWORD"), "")

    def __bool__(self) -> bool:
        return bool(self.names)

    def shown(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, str]:
        """Return the headers that say how arguments are shown. What fits no parameter is masked as well.

        Args:
            args: The positional arguments.
            kwargs: The keyword arguments.
        """
        names = [*self._positional[: len(args)], *[self._rest] * (len(args) - len(self._positional))]
        positional = tuple(MASK if self._hides(name) else value for name, value in zip(names, args, strict=True))
        named = {name: MASK if self._hides(self._parameter(name)) else value for name, value in kwargs.items()}
        return {ARGS: saferepr(positional, **self._limits), KWARGS: saferepr(named, **self._limits)}

    def over(self, headers: Mapping[str, Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Mapping[str, str]:
        """Return the headers that say how the arguments of a message are shown, which may be masked already.

        Args:
            headers: The message's own.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
        """
        shown = self.shown(args, kwargs)
        # The sender may mask other arguments, and the message does not say which.
        differs = is_masked(headers) and any(headers.get(name) != text for name, text in shown.items())
        return HIDDEN if differs else shown

    def _parameter(self, keyword: str) -> str:
        return keyword if keyword in self._named else self._others

    def _hides(self, parameter: str) -> bool:
        return not parameter or parameter in self.names
