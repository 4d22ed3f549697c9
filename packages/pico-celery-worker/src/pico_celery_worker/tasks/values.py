"""HandlerValues: the arguments of messages as the handler declares them, and its value as plain data."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from pico_celery_core.contract.signatures import message_signature
from pico_celery_core.errors import HandlerArgumentsError, LossyModelError
from pico_celery_core.options import TYPED
from pico_celery_core.sensitive import is_sensitive
from pico_celery_core.values.arguments import ArgumentCodecs, ArgumentError
from pico_celery_core.values.returned import ReturnedValue, is_typed
from pico_celery_core.values.untyped import Untyped, untyped_annotations
from pico_celery_worker.container.handlers import Handler


class HandlerValues:
    """Turns what messages carry into what a handler declares, and back.

    Args:
        handler: The handler.
    """

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        signature = message_signature(handler.function, bound=bool(handler.spec.options.get("bind")))
        sensitive = {name for name, p in signature.parameters.items() if is_sensitive(p.annotation)}
        self._arguments = ArgumentCodecs(signature, sensitive)
        self._returned = ReturnedValue.of(handler.spec.name, signature.return_annotation, "handler")
        # Now: later there may be no file left that could be opened to import what they need.
        self._arguments.compile()
        if self._returned is not None:
            self._returned.codec.compile()

    @classmethod
    def of(cls, task: Any) -> Self | None:
        """Return the values of a task's handler; None where they stay as they are, and with `pydantic=True`.

        Args:
            task: The Celery task.
        """
        if not are_typed(task.handler, task.app):
            return None
        values = cls(task.handler)
        return values if values._arguments.has_any or values._returned is not None else None

    def received(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return a message's arguments as values of the declared types.

        Raises:
            HandlerArgumentsError: If one does not fit.
        """
        try:
            return self._arguments.load(tuple(args), kwargs)
        except ArgumentError as error:
            raise self._misfit(error) from None

    def check(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Look whether a message's arguments fit.

        Raises:
            ArgumentError: If one does not.
        """
        self._arguments.load(tuple(args), kwargs)

    def sent(self, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None) -> tuple[Any, Any]:
        """Return the arguments of a message to send as plain data. What fits no parameter stays as it is.

        Raises:
            HandlerArgumentsError: If one does not fit.
            LossyModelError: If one would not arrive as it is.
        """
        try:
            return self._arguments.dump(tuple(args or ()), kwargs or {})
        except ArgumentError as error:
            if error.problem:
                raise self._misfit(error) from None
            kind = type(error.value).__qualname__
            where = str(self._handler)
            raise LossyModelError(where, self._handler.spec.name, error.argument, kind, "json") from error.__cause__

    def _misfit(self, error: ArgumentError) -> HandlerArgumentsError:
        handler = self._handler
        return HandlerArgumentsError(handler.spec.name, str(handler), str(error), str(handler.signature))

    def returned(self, value: Any) -> Any:
        """Return the handler's value as plain data.

        Raises:
            ResultTypeError: If it does not fit the handler's return annotation.
        """
        return value if self._returned is None else self._returned.dump(value)

    def revived(self, value: Any) -> Any:
        """Return the handler's value of the declared type, after its way through a result backend.

        Raises:
            ResultTypeError: If it does not fit the handler's return annotation.
        """
        return value if self._returned is None else self._returned.load(value)


def are_typed(handler: Handler, app: Any) -> bool:
    """Tell whether values become what a handler's annotations say; with `pydantic=True`, Celery does what it does.

    Args:
        handler: The handler.
        app: The app that it is registered with.
    """
    options = handler.spec.options
    return not options.get("pydantic") and is_typed(app, options.get(TYPED))


def untyped(handler: Handler, app: Any) -> tuple[Untyped, ...]:
    """Return which annotations of a handler say a type that values do not get, though they are meant to.

    Args:
        handler: The handler.
        app: The app that it is registered with.
    """
    if not are_typed(handler, app):
        return ()
    bound = bool(handler.spec.options.get("bind"))
    return untyped_annotations(handler.function, "pico-celery-worker", bound=bound)
