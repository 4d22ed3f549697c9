"""Messages that are made like the one before them: many calls of one stub, of which Celery makes the first.

What Celery 5.7 does for one message takes as long as all else that is done to send it together with others. Of two
messages to one task with the same options all is the same but ids, arguments, and how these are shown. So the second
one is made here, unless something hears of each message, or may route it by its arguments.
"""

import inspect
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from celery import Celery, signals
from celery.app.routes import MapRoute
from celery.utils import uuid
from celery.utils.saferepr import saferepr

from pico_celery_client.publishing.message import Explain, Message
from pico_celery_client.publishing.producers import BatchingProducer, Publication
from pico_celery_client.publishing.sending import Send
from pico_celery_core.publishing_time import PUBLISHED_AT

# Options that mean the same for each message, and of which Celery does not make something new for each.
_SAME_FOR_ALL: Final = frozenset({
    "argsrepr",
    "compression",
    "delivery_mode",
    "eta",
    "exchange",
    "headers",
    "ignore_result",
    "kwargsrepr",
    "priority",
    "queue",
    "routing_key",
    "serializer",
    "shadow",
    "soft_time_limit",
    "time_limit",
})  # fmt: skip
_SHOWN: Final = ("argsrepr", "kwargsrepr")

# As many values, each as long, are shown as they are, whatever the limits.
_FEW: Final = 10
_SHORT: Final = 40
_LARGE: Final = 10**15
_PLAIN: Final = (int, float, bool, type(None))
_ENOUGH: Final = 1000
_PROTOCOL: Final = 2


class Call(NamedTuple):
    """What a message calls.

    Args:
        task: The task's name.
        args: The positional arguments.
        kwargs: The keyword arguments.
        result_class: Makes the result, by the task's id.
    """

    task: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result_class: Callable[[str], Any]


class CallMessage(Message):
    """The message of a call, which may be made like that of another call of the same stub.

    Args:
        app: The app to send with.
        send: Has Celery send it.
        options: What to send it with.
        explain: Says what an error in publishing means.
        call: What it calls.
    """

    def __init__(self, app: Celery, send: Send, options: Mapping[str, Any], explain: Explain, call: Call) -> None:
        super().__init__(app, send, options, explain)
        self.task = call.task
        self.patterns: dict[str, Pattern] | None = None
        """What may be made anew, by the task; None where Celery is to make each message."""
        self._call = call

    def prepare(self, producer: BatchingProducer) -> None:
        """Have it made, by Celery or like the one before it, and keep what is to be published; in a thread.

        Args:
            producer: What is going to publish it.
        """
        patterns = self.patterns
        if patterns is None or not self.options.keys() <= _SAME_FOR_ALL:
            super().prepare(producer)
            return
        pattern = patterns.get(self.task)
        if pattern is not None and pattern.fits(self.options):
            self.make(pattern.like, self._call, self.options)
            return
        super().prepare(producer)
        if self.is_pending and len(self.publications) == 1:
            patterns[self.task] = Pattern(self.app, self.publications[0], self.options)


class Pattern:
    """A message that Celery has made, to make others like it.

    Args:
        app: The app that sends them.
        publication: What is to be published of it.
        options: What it is sent with.
    """

    def __init__(self, app: Celery, publication: Publication, options: Mapping[str, Any]) -> None:
        self._app = app
        (_, _, self._embedded), self._publication = publication
        self._options = _for_all(options)
        self._headers: dict[str, Any] = self._publication["headers"]
        self._is_root = self._headers["root_id"] == self._headers["id"]
        self._limits = {"maxlen": app.amqp.argsrepr_maxsize, "maxlevels": app.conf.task_repr_maxlevels}

    def fits(self, options: Mapping[str, Any]) -> bool:
        """Tell whether a message with other options to the same task is like it."""
        return _for_all(options) == self._options

    def like(self, call: Call, options: Mapping[str, Any]) -> tuple[Any, Publication]:
        """Return the result of a message like it, and what is to be published.

        Args:
            call: What it calls.
            options: What it is sent with.
        """
        task_id = uuid()
        headers = {
            **self._headers,
            "id": task_id,
            "argsrepr": options.get("argsrepr") or shown(call.args, self._limits),
            "kwargsrepr": options.get("kwargsrepr") or shown(call.kwargs, self._limits),
            PUBLISHED_AT: round(time.time(), 6),
        }
        if self._is_root:
            headers["root_id"] = task_id
        result = call.result_class(task_id)
        result.ignored = options.get("ignore_result")
        parent = self._app.current_worker_task
        if parent:
            parent.add_trail(result)
        body = call.args, call.kwargs, self._embedded
        return result, (body, {**self._publication, "headers": headers, "correlation_id": task_id})


def may_have_patterns(app: Celery) -> bool:
    """Tell whether messages may be made without Celery: nobody hears of each, and none is routed by its arguments.

    Args:
        app: The app that is to send them.
    """
    send: Any = app.send_task
    return (
        inspect.unwrap(getattr(send, "__func__", send)) is getattr(send, "__func__", send)
        and send.__module__ == "celery.app.base"
        and app.amqp_cls == Celery.amqp_cls
        and app.conf.task_protocol == _PROTOCOL
        and not app.conf.task_send_sent_event
        and len(signals.before_task_publish.receivers or ()) <= 1  # that of our own, which notes the time
        and all(isinstance(route, MapRoute) for route in app.amqp.routes or ())
    )


def shown(arguments: Any, limits: Mapping[str, Any]) -> str:
    """Return what Celery's `saferepr` returns of a message's arguments, sooner for a few plain ones.

    Args:
        arguments: The positional arguments, or the keyword arguments.
        limits: How much Celery shows: its `saferepr`'s `maxlen` and `maxlevels`.
    """
    is_dict = isinstance(arguments, dict)
    values = (*arguments, *arguments.values()) if is_dict else arguments
    # With limits as Celery's defaults, and few values, nothing is left out.
    if len(values) <= _FEW and limits["maxlen"] >= _ENOUGH and limits["maxlevels"] >= 1 and all(map(_is_plain, values)):
        return repr(arguments)
    return str(saferepr(arguments, **limits))


def _is_plain(value: Any) -> bool:
    if type(value) is str:
        # Celery puts text between quotes as it is.
        return len(value) <= _SHORT and repr(value) == f"'{value}'"
    return type(value) in _PLAIN and -_LARGE < (value or 0) < _LARGE


def _for_all(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in _SHOWN}
