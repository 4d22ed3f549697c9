"""A broker and a result backend in this process's memory, for the testing modules of client and worker.

Celery's own sending and storing goes on above them, so that messages and results are encoded and decoded as they would
be between processes. Which broker and which backend an app uses can be changed only in private parts of Celery once
the app is made; what is used of them is here, read in Celery 5.7.0. tests/unit/core/testing/test_memory.py holds them
to it.
"""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, Final

from celery import Celery, states
from celery.backends.base import KeyValueStoreBackend
from celery.exceptions import TimeoutError as CeleryTimeoutError
from kombu import pools
from kombu.compression import compress
from kombu.connection import Connection
from kombu.message import Message
from kombu.serialization import dumps, loads
from kombu.utils.json import dumps as dump_json
from kombu.utils.json import loads as load_json

from pico_celery_core.failures.backend import FailuresInFull

# Part of kombu has types, and these have not.
_compress: Any = compress
_connection: Any = Connection
_dumps: Any = dumps
_dump_json: Any = dump_json
_load_json: Any = load_json
_loads: Any = loads
_message: Any = Message

# How to publish rather than what.
_FOR_THE_PRODUCER: Final = ("confirm_timeout", "declare", "retry", "retry_policy", "timeout")

_ABSENT: Final = object()


class Outbox:
    """Stands where Celery expects a producer: hands each task's message over instead of publishing it.

    Args:
        deliver: Gets each message as a consumer would, still encoded.
    """

    def __init__(self, deliver: Callable[[Message], None]) -> None:
        self.connection = _connection("memory://")
        self._deliver = deliver

    def publish(
        self,
        body: Any,
        *,
        headers: Mapping[str, Any] | None = None,
        serializer: str | None = None,
        compression: str | None = None,
        exchange: str = "",
        routing_key: str = "",
        **properties: Any,
    ) -> None:
        """Encode a message and hand it over; Celery's events are dropped.

        Args:
            body: What to encode.
            headers: The message's headers, with Celery's own.
            serializer: Kombu's name of a serializer.
            compression: Kombu's name of a compression, if any.
            exchange: Where the message would go.
            routing_key: Where the message would go.
            **properties: What else Celery says of the message, and of how to publish it.

        Raises:
            kombu.exceptions.EncodeError: If the serializer cannot encode the body.
        """
        sent_headers = dict(headers or {})
        if "task" not in sent_headers:
            return
        content_type, content_encoding, payload = _dumps(body, serializer=serializer)
        if compression:
            payload, sent_headers["compression"] = _compress(payload, compression)
        kept = {name: value for name, value in properties.items() if name not in _FOR_THE_PRODUCER}
        self._deliver(
            _message(
                payload,
                content_type=content_type,
                content_encoding=content_encoding,
                headers=_load_json(_dump_json(sent_headers)),
                properties=kept,
                delivery_info={"exchange": exchange, "routing_key": routing_key, "redelivered": False},
            )
        )


class MemoryBackend(FailuresInFull, KeyValueStoreBackend):  # type: ignore[misc]  # Celery has no types
    """Keeps results, encoded, for as long as it lives, and wakes the callers that wait for one.

    Args:
        app: Whose settings say how to encode.
        **options: What Celery's backends take.
    """

    implements_incr = True
    supports_autoexpire = True
    supports_failure_expires = True
    supports_result_compression = True

    def __init__(self, app: Celery, **options: Any) -> None:
        super().__init__(app, **options)
        self.thread_safe = True
        self._changed = threading.Condition()
        self._values: dict[Any, Any] = {}

    def get(self, key: Any) -> Any:
        """Return what is kept under a key, or None."""
        return self._values.get(key)

    def mget(self, keys: Any) -> list[Any]:
        """Return what is kept under several keys."""
        return [self.get(key) for key in keys]

    def set(self, key: Any, value: Any) -> None:
        """Keep a value."""
        with self._changed:
            self._values[key] = value
            self._changed.notify_all()

    def delete(self, key: Any) -> None:
        """Forget a value."""
        with self._changed:
            self._values.pop(key, None)

    def incr(self, key: Any) -> int:
        """Count up, from nothing to 1."""
        with self._changed:
            count: int = self._values.get(key, 0) + 1
            self._values[key] = count
            return count

    def wait_for(
        self,
        task_id: str,
        timeout: float | None = None,
        interval: float = 0.5,  # noqa: ARG002
        no_ack: bool = True,  # noqa: ARG002
        on_interval: Callable[[], Any] | None = None,
    ) -> Any:
        """Wait until a task has come to its end, and return what is known of it; `get` of its result comes here.

        Raises:
            celery.exceptions.TimeoutError: If it has not in time.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while True:
                meta = self.get_task_meta(task_id)
                if meta["status"] in states.READY_STATES:
                    return meta
                if on_interval is not None:
                    on_interval()
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining <= 0:
                    raise CeleryTimeoutError("The operation timed out.")
                self._changed.wait(remaining)


def round_trip(value: Any, serializer: str) -> Any:
    """Return what arrives of a value.

    Args:
        value: What is sent.
        serializer: Kombu's name of a serializer.

    Raises:
        kombu.exceptions.EncodeError: If the serializer cannot encode it.

    Example:
        >>> round_trip({"orders": (7, 8)}, "json")
        {'orders': [7, 8]}
    """
    content_type, content_encoding, payload = _dumps(value, serializer=serializer)
    return _loads(payload, content_type, content_encoding, accept={content_type})


def keep_in_memory(app: Celery, outbox: Outbox, backend: MemoryBackend) -> Callable[[], None]:
    """Let an app send to an outbox, and keep its results in a backend, without a connection to anywhere.

    Args:
        app: Whatever broker and backend it was made for.
        outbox: Where its messages go.
        backend: Where its results are.

    Returns:
        What gives the app back its own.
    """
    connection = outbox.connection
    replacements: list[tuple[Any, str, Any]] = [
        (app, "producer_or_acquire", lambda producer=None: nullcontext(outbox)),  # noqa: ARG005
        (app, "connection_or_acquire", lambda connection=None, *_, **__: nullcontext(outbox.connection)),  # noqa: ARG005
        (app, "_backend_cache", backend),
        # What remote control sends with.
        (app.amqp, "_producer_pool", pools.producers[connection]),
    ]
    own = [(owner, name, vars(owner).get(name, _ABSENT)) for owner, name, _ in replacements]
    for owner, name, value in replacements:
        vars(owner)[name] = value

    def restore() -> None:
        for owner, name, value in own:
            if value is _ABSENT:
                del vars(owner)[name]
            else:
                vars(owner)[name] = value
        connection.release()

    return restore
