"""Sending without blocking an event loop."""

import asyncio
import contextvars
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from celery import Celery
from kombu.exceptions import OperationalError
from kombu.messaging import Producer
from kombu.pools import ProducerPool

from pico_celery_client.per_app import PerApp
from pico_celery_client.publishing.thread_pool import DaemonThreads
from pico_celery_core.errors import PublishTimeoutError
from pico_celery_core.timeouts import Timeouts

Send = Callable[[Mapping[str, Any]], Any]
"""Sends one message with the given options of `send_task`, and returns its result."""

# More would send no more, for they share one interpreter, and keep the event loop waiting for its turn.
_THREADS: Final = 4

_publishers: Final = PerApp(lambda _: DaemonThreads("pico-celery-publish", most=_THREADS))


async def publish(app: Celery, task: str, send: Send, options: Mapping[str, Any], timeout: float | None) -> Any:
    """Send a message off the event loop, and wait for it no longer than a deadline.

    Args:
        app: The app to send with.
        task: The task's name, for the error.
        send: Sends the message.
        options: What to send it with, such as a `retry_policy`.
        timeout: How long it may take altogether, in seconds; None for as long as Celery tries.

    Returns:
        What `send` returns.

    Raises:
        PublishTimeoutError: If the deadline passes. What still waits for a thread or a connection by then is not sent;
            what hangs in the network may arrive yet.
        Exception: What `send` raises.
    """
    publication = _Publication(app, send, options)
    loop = asyncio.get_running_loop()
    # The context carries Celery's current task: what a task sends has that task as its parent.
    context = contextvars.copy_context()
    deadline = asyncio.timeout(timeout)
    try:
        async with deadline:
            return await loop.run_in_executor(_publishers.of(app), context.run, publication.run)
    except (TimeoutError, OperationalError) as error:
        # A socket's limit is as long, and begins later. Which of the two is noticed first must not make a difference.
        is_late = deadline.expired() or loop.time() >= (deadline.when() or math.inf)
        if not is_late:
            raise
        publication.awaited = False  # before it is asked how far that is: it may begin at this moment
        problem = publication.problem or (error.__cause__ if isinstance(error, OperationalError) else None)
        late = PublishTimeoutError(task, timeout or 0, broker_of(app), str(problem or ""), publication.begun)
        raise late from problem
    finally:
        publication.awaited = False


def publish_here(app: Celery, send: Send, options: Mapping[str, Any]) -> Any:
    """Send a message, and wait for it here.

    Args:
        app: The app to send with.
        send: Sends the message.
        options: What to send it with.

    Returns:
        What `send` returns.

    Raises:
        Exception: What `send` raises.
    """
    _leave_out_subscription(app.backend)
    token = _is_a_stub_sending.set(True)
    try:
        if options.get("producer") or options.get("connection"):
            return send(options)
        with _producers.of(app).acquire(block=True) as producer:
            return send({**options, "producer": producer})
    finally:
        _is_a_stub_sending.reset(token)


def broker_of(app: Celery) -> str:
    """Return the URL of an app's broker, without a password."""
    url: str = app.connection_for_write().as_uri()
    return url


class _Publication:
    """One message on its way."""

    def __init__(self, app: Celery, send: Send, options: Mapping[str, Any]) -> None:
        self._app = app
        self._send = send
        self._options = options
        self._retry_policy: Mapping[str, Any] = options.get("retry_policy") or {}
        self.begun = False
        self.awaited = True
        self.problem: Exception | None = None

    def run(self) -> Any:
        """Send it; in a thread."""
        _publication.set(self)
        options = {**self._options, "retry_policy": {**self._retry_policy, "errback": _note}}
        return publish_here(self._app, self._begin, options)

    def note(self, error: Exception, pause: float) -> None:
        """Keep what went wrong, and go on only if the sender still waits."""
        self.problem = error
        errback = self._retry_policy.get("errback")
        if errback:
            errback(error, pause)
        if not self.awaited:
            raise error

    def _begin(self, options: Mapping[str, Any]) -> Any:
        self.begun = True
        return self._send(options) if self.awaited else None


_publication: contextvars.ContextVar[_Publication | None] = contextvars.ContextVar("publication", default=None)
_is_a_stub_sending: contextvars.ContextVar[bool] = contextvars.ContextVar("is_a_stub_sending", default=False)


def _note(error: Exception, pause: float) -> None:
    """Tell the publication what went wrong, after each attempt that fails; kombu tells only after its last retry."""
    publication = _publication.get()
    if publication is not None:
        publication.note(error, pause)


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


class _Producer(Producer):
    """kombu's producer, which connects again for a message and never for the declaration of its queue alone.

    kombu 5.7 would do so, and publish by the channel that is closed with the old connection. To Redis that fails with
    an AttributeError, which says nothing of what had gone wrong: that the connection was lost, or Redis is full.
    """

    def maybe_declare(self, entity: Any, retry: bool = False, **retry_policy: Any) -> Any:  # noqa: ARG002
        """Declare an exchange or a queue, unless that was done before. What fails is tried again with the message."""
        return super().maybe_declare(entity, retry=False)  # type: ignore[no-untyped-call]


def _new_producers(app: Celery) -> Any:
    limit = app.conf.broker_pool_limit
    connection: Any = app.connection_for_write(transport_options=_timeouts(app))
    return ProducerPool(connection.Pool(limit=limit), limit=limit, Producer=_Producer)  # type: ignore[no-untyped-call]


# Celery's own pool has connections that wait as long as the network does: over a minute for one to be made, for ever
# for an answer. Threads that hang so would be missed by those who send next.
_producers: Final = PerApp(_new_producers)


def _timeouts(app: Celery) -> dict[str, float]:
    answer = Timeouts.of(app).publish or None
    kinds: dict[str, dict[str, Any]] = {
        "redis": {"socket_timeout": answer, "socket_connect_timeout": app.conf.broker_connection_timeout},
        "amqp": {"read_timeout": answer, "write_timeout": answer},
    }
    ours = kinds.get(app.connection_for_write().transport.driver_type, {})
    return {name: value for name, value in ours.items() if name not in app.conf.broker_transport_options}
