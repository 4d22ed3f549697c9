"""Sending by Celery's `send_task`, with a producer of ours."""

import contextvars
from collections.abc import Callable, Mapping
from typing import Any, Final

from celery import Celery, signals

from pico_celery_client.publishing.producers import producer_of

Send = Callable[[Mapping[str, Any]], Any]
"""Sends one message with the given options of `send_task`, and returns its result."""

_is_a_stub_sending: Final[contextvars.ContextVar[bool]] = contextvars.ContextVar("is_a_stub_sending", default=False)


def is_heard() -> bool:
    """Tell whether somebody listens for what is published, and is to hear of each message when it is."""
    return bool(signals.after_task_publish.receivers or signals.task_sent.receivers)


def send_here(app: Celery, send: Send, options: Mapping[str, Any]) -> Any:
    """Send a message, and wait for the broker on this thread.

    Args:
        app: The app to send with.
        send: Sends the message.
        options: What to send it with. Where they have a producer or a connection, that is used.

    Returns:
        What `send` returns.

    Raises:
        Exception: What `send` raises.
    """
    if options.get("producer") or options.get("connection"):
        return send_by(app, send, options)
    with producer_of(app) as producer:
        return send_by(app, send, {**options, "producer": producer})


def send_by(app: Celery, send: Send, options: Mapping[str, Any]) -> Any:
    """Send a message by the producer in its options, and subscribe to no result.

    Args:
        app: The app to send with.
        send: Sends the message.
        options: What to send it with.
    """
    _leave_out_subscription(app.backend)
    token = _is_a_stub_sending.set(True)
    try:
        return send(options)
    finally:
        _is_a_stub_sending.reset(token)


def _leave_out_subscription(backend: Any) -> None:
    """Have the backend of a sending thread subscribe to no results.

    With each message Celery 5.7's Redis backend subscribes to its result, for `get`, which subscribes by itself as
    well. While the server is away each send would wait 19 s for that, and so would each result when it is deleted, on
    whatever thread that happens.
    """
    consumer = getattr(backend, "result_consumer", None)
    if not hasattr(consumer, "subscribed_to") or "on_task_call" in vars(backend):
        return
    subscribe = backend.on_task_call

    def on_task_call(producer: Any, task_id: str) -> Any:
        return None if _is_a_stub_sending.get() else subscribe(producer, task_id)

    backend.on_task_call = on_task_call
