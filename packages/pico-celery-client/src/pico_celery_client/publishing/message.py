"""One message on its way, and the coroutine that waits until it is sent."""

import asyncio
import contextvars
from collections.abc import Callable, Mapping
from typing import Any, Final

from celery import Celery

from pico_celery_client.publishing.producers import BatchingProducer, Publication
from pico_celery_client.publishing.sending import Send, send_by, send_here

Explain = Callable[[Exception], Exception]
"""Returns what is raised of an error in publishing."""

# Options with which a message is not one of many: what it is published with, and how often it is tried.
_ALONE: Final = ("connection", "producer", "publisher", "retry", "retry_policy")

_UNSENT: Final = object()


class Message:
    """A message on its way. Make it in the context of who sends it.

    Args:
        app: The app to send with.
        send: Has Celery send it.
        options: What to send it with.
        explain: Says what an error in publishing means.
    """

    def __init__(self, app: Celery, send: Send, options: Mapping[str, Any], explain: Explain) -> None:
        self.app = app
        self._send = send
        self.options = options
        """What it is sent with."""
        self._explain = explain
        self._retry_policy: Mapping[str, Any] = options.get("retry_policy") or {}
        # The context carries Celery's current task: what a task sends has that task as its parent.
        self._context = contextvars.copy_context()
        self._value: Any = _UNSENT
        self._error: Exception | None = None
        self.begun = False
        self.awaited = True
        self.problem: Exception | None = None
        """What went wrong so far."""
        self.publications: list[Publication] = []
        """What is to be published of it, and is not yet."""

    @property
    def is_for_a_batch(self) -> bool:
        """Whether it may be sent together with others."""
        return not any(map(self.options.get, _ALONE))

    @property
    def is_pending(self) -> bool:
        """Whether it has not failed, and its sender still waits."""
        return self.awaited and self._error is None

    @property
    def outcome(self) -> Any:
        """What sending it has returned, the error that it failed with, or None as long as it is on its way."""
        if self._error is not None:
            return self._error
        return None if self._value is _UNSENT or self.publications else self._value

    def send_alone(self) -> None:
        """Send it by itself; in a thread."""
        self._run(self._publish_alone)

    def prepare(self, producer: BatchingProducer) -> None:
        """Have Celery make it, and keep what is to be published; in a thread.

        Args:
            producer: What is going to publish it.
        """
        if not self.awaited:
            return
        self.begun = True
        with producer.keeping() as self.publications:
            self._run(send_by, self.app, self._send, {**self.options, "producer": producer})

    def make(self, make: Callable[..., tuple[Any, Publication]], *args: Any) -> None:
        """Have it made elsewhere than by Celery.

        Args:
            make: Returns what its sender gets, and what is to be published.
            *args: What to call that with.
        """
        if self.awaited:
            self.begun = True
            value, publication = self._context.run(make, *args)
            self._value, self.publications = value, [publication]

    def publish(self, producer: BatchingProducer) -> None:
        """Publish what is left of it, with its retries; in a thread.

        Args:
            producer: What to publish it with.

        Raises:
            Exception: If that fails.
        """
        while self.publications:
            body, options = self.publications[0]
            policy = {**(options.get("retry_policy") or {}), "errback": _note}
            self._context.run(self._noting, producer.publish, body, **{**options, "retry_policy": policy})
            del self.publications[0]

    def note(self, error: Exception, pause: float = 0) -> None:
        """Keep what went wrong, and go on only if the sender still waits.

        Args:
            error: What went wrong.
            pause: After how long it is tried again, in seconds.

        Raises:
            Exception: The error, if nobody waits.
        """
        self.problem = error
        errback = self._retry_policy.get("errback")
        if errback:
            errback(error, pause)
        if not self.awaited:
            raise error

    def fail(self, error: Exception) -> None:
        """End with an error in publishing.

        Args:
            error: What went wrong.
        """
        self._error = self._explain(error)

    def give_up(self, error: Exception) -> None:
        """End with an error that says what it means.

        Args:
            error: Why it is not sent, or not known to be.
        """
        self._error = error

    def _run(self, call: Callable[..., Any], *args: Any) -> None:
        try:
            self._value = self._context.run(self._noting, call, *args)
        except Exception as error:  # noqa: BLE001  # the sender's
            self._error = error

    def _noting(self, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        _message.set(self)
        return call(*args, **options)

    def _publish_alone(self) -> Any:
        options = {**self.options, "retry_policy": {**self._retry_policy, "errback": _note}}
        return send_here(self.app, self._begin, options)

    def _begin(self, options: Mapping[str, Any]) -> Any:
        self.begun = True
        return self._send(options) if self.awaited else None


class AwaitedMessage(Message):
    """A message that a coroutine sends, and waits for by itself. Make it there.

    Args:
        app: The app to send with.
        send: Has Celery send it.
        options: What to send it with.
        explain: Says what an error in publishing means.
    """

    def __init__(self, app: Celery, send: Send, options: Mapping[str, Any], explain: Explain) -> None:
        super().__init__(app, send, options, explain)
        self.sent: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        """What becomes of it."""

    def finish(self) -> None:
        """Tell the sender; on the event loop."""
        if self.sent.done():
            return
        if self._error is not None:
            self.sent.set_exception(self._error)
        else:
            self.sent.set_result(None if self._value is _UNSENT else self._value)


_message: Final[contextvars.ContextVar[Message | None]] = contextvars.ContextVar("message", default=None)


def _note(error: Exception, pause: float) -> None:
    """Tell the message what went wrong, after each attempt that fails; kombu tells only after its last retry.

    kombu keeps it with its connection, so it is no method of a message.
    """
    message = _message.get()
    if message is not None:
        message.note(error, pause)
