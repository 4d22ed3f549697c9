"""What a worker shows of arguments that are marked as sensitive, by the stub or by the handler: nothing.

A message says in two of its headers how its arguments are shown, and Celery's events and errors go by them. The client
masks what its stub marks. Here what the handler marks is masked when a message comes; and so is, where Celery 5.7 shows
the arguments themselves, what either marks: in replies to `celery inspect`, in what it logs of a message that no task
takes, and in the debug log of its pools.
"""

import functools
import logging
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, Final

from celery.utils.saferepr import saferepr

from pico_celery_core.contract.signatures import message_signature
from pico_celery_core.sensitive import MASK, is_sensitive
from pico_celery_worker.execution.execution import Handler

_ARGS: Final = "argsrepr"
_KWARGS: Final = "kwargsrepr"


def is_masked(headers: Any) -> bool:
    """Tell whether something is masked among the arguments of a message with these headers."""
    return isinstance(headers, Mapping) and any(MASK in str(headers.get(name)) for name in (_ARGS, _KWARGS))


class Mask:
    """What is sensitive among the parameters of a handler.

    Args:
        handler: The handler.
    """

    def __init__(self, handler: Handler) -> None:
        function = getattr(handler.cls, handler.method)
        parameters = message_signature(function, bound=bool(handler.spec.options.get("bind"))).parameters.values()
        self.names = {parameter.name for parameter in parameters if is_sensitive(parameter.annotation)}
        variadic = {parameter.kind: parameter.name for parameter in parameters}
        self._positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        self._named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        self._rest = next((name for kind, name in variadic.items() if kind.name == "VAR_POSITIONAL"), "")
        self._others = next((name for kind, name in variadic.items() if kind.name == "VAR_KEYWORD"), "")

    def put_on(self, headers: MutableMapping[str, Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Mask what a message shows of its arguments.

        Args:
            headers: Its headers, which are changed.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
        """
        names = [*self._positional[: len(args)], *[self._rest] * (len(args) - len(self._positional))]
        shown = tuple(MASK if name in self.names else value for name, value in zip(names, args, strict=True))
        headers[_ARGS] = saferepr(shown)
        headers[_KWARGS] = saferepr({name: MASK if self._hides(name) else value for name, value in kwargs.items()})

    def _hides(self, keyword: str) -> bool:
        return (keyword if keyword in self._named else self._others) in self.names


def without_body(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Return what does as a consumer's handler of messages that no task takes, which logs their bodies."""

    @functools.wraps(handler)
    def handle(body: Any, message: Any, *args: Any) -> Any:
        return handler(MASK if is_masked(message.headers) else body, message, *args)

    return handle


class PoolLogFilter(logging.Filter):
    """Masks what Celery's pools log of a task at the level DEBUG: the whole message."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, without what is masked elsewhere."""
        if str(record.msg).startswith("TaskPool: Apply") and MASK in str(record.args):
            record.msg, record.args = "TaskPool: Apply a task whose arguments are sensitive", ()
        return True


def mask_pool_log() -> None:
    """Install the filter, once."""
    logger = logging.getLogger("celery.pool")
    if not any(isinstance(present, PoolLogFilter) for present in logger.filters):
        logger.addFilter(PoolLogFilter())
