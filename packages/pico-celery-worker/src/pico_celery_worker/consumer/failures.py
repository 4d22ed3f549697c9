"""What fails while a message is received: only what is wrong in the message itself may cost it.

Whatever else fails, such as the pool, an extension or the machine, would fail for the next message too. So the message
stays with the broker, and the worker ends: whoever started it starts another, or sees that it does not.

Read in Celery 5.7.0; tests/unit/worker/consumer/test_failures.py holds it to Celery's request.
"""

import logging
from collections.abc import Mapping
from typing import Any

from celery.platforms import EX_FAILURE
from celery.worker import state
from celery.worker.request import Request
from celery.worker.strategy import hybrid_to_proto2, proto1_to_proto2

from pico_celery_worker.loop.log_fields import log_fields

logger = logging.getLogger(__name__)


def is_messages(error: Exception, message: Any, app: Any) -> bool:
    """Tell whether an error in the reception of a message is the message's: Celery cannot make a request of it.

    Args:
        error: What was raised.
        message: The message.
        app: The worker's app.
    """
    if isinstance(error, MemoryError):
        return False
    try:
        headers, body = message.headers, message.payload
        if isinstance(body, Mapping):
            convert = hybrid_to_proto2 if "args" in body and "task" in headers else proto1_to_proto2
            body, headers, *_ = convert(message, dict(body))
        request = Request(message, app=app, task=app.Task, headers=headers, body=body, decoded=True)
        hash((request.id, request.name, *request.stamped_headers, *request.stamps))
    except MemoryError:
        return False
    except Exception:  # noqa: BLE001  # whatever it is, it comes of nothing but the message
        return True
    return False


def leave(message: Any, error: Exception) -> None:
    """Leave a message with the broker, and end the worker as soon as its loop comes round, warm.

    Args:
        message: The message.
        error: Why it could not be received.
    """
    headers = message.headers if isinstance(message.headers, Mapping) else {}
    logger.critical(
        "The message of task %s[%s] could not be received: %r. Nothing is wrong with the message, so it stays with the "
        "broker. This worker ends, for the next message might fare no better.",
        *(headers.get("task"), headers.get("id"), error),
        exc_info=error,
        extra=log_fields("reception-failed", headers.get("task"), headers.get("id")),
    )
    forget(message)
    if state.should_stop is None or state.should_stop is False:
        state.should_stop = EX_FAILURE


def forget(message: Any) -> None:
    """Let Celery forget the request of a message that will not be run."""
    request = next((known for known in tuple(state.requests.values()) if known.message is message), None)
    if request is not None:
        state.task_ready(request)


def is_short_of_memory(error: Exception) -> bool:
    """Tell whether a message could not be decoded for the lack of memory. kombu wraps what its codecs raise."""
    return isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError)
