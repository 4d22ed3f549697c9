"""Sending without blocking an event loop."""

import asyncio
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from celery import Celery
from kombu.exceptions import OperationalError

from pico_celery_client.per_app import PerApp
from pico_celery_client.publishing.batches import AppBatches
from pico_celery_client.publishing.message import AwaitedMessage, Explain
from pico_celery_client.publishing.producers import can_batch
from pico_celery_client.publishing.sending import Send, is_heard
from pico_celery_client.publishing.thread_pool import DaemonThreads
from pico_celery_core.errors import PublishTimeoutError

# More would send no more, for they share one interpreter, and keep the event loop waiting for its turn.
_THREADS: Final = 4


class _Publisher:
    """What an app sends with off the event loop."""

    def __init__(self, app: Celery) -> None:
        self.threads = DaemonThreads("pico-celery-publish", most=_THREADS)
        self._batches = AppBatches(self.threads, most=_THREADS) if can_batch(app) else None

    def send(self, message: AwaitedMessage) -> None:
        """Send a message in a thread: with others if it can be, else by itself."""
        if self._batches is None or is_heard() or not message.is_for_a_batch:
            self.threads.submit(_send_alone, message, asyncio.get_running_loop())
        else:
            self._batches.here().add(message)


_publishers: Final = PerApp(_Publisher)


async def publish(
    app: Celery,
    task: str,
    send: Send,
    options: Mapping[str, Any],
    timeout: float | None,
    *,
    explain: Explain = lambda error: error,
) -> Any:
    """Send a message off the event loop, and wait for it no longer than a deadline.

    Args:
        app: The app to send with.
        task: The task's name, for the error.
        send: Sends the message.
        options: What to send it with, such as a `retry_policy`.
        timeout: How long it may take altogether, in seconds; None for as long as Celery tries.
        explain: Returns what is raised of an error in publishing it together with others.

    Returns:
        What `send` returns.

    Raises:
        PublishTimeoutError: If the deadline passes. What still waits for a thread or a connection by then is not sent;
            what hangs in the network may arrive yet.
        Exception: What `send` raises.
    """
    loop = asyncio.get_running_loop()
    message = AwaitedMessage(app, send, options, explain)
    deadline = asyncio.timeout(timeout)
    try:
        async with deadline:
            _publishers.of(app).send(message)
            return await message.sent
    except (TimeoutError, OperationalError) as error:
        # A socket's limit is as long, and begins later. Which of the two is noticed first must not make a difference.
        is_late = deadline.expired() or loop.time() >= (deadline.when() or math.inf)
        if not is_late:
            raise
        message.awaited = False  # before it is asked how far that is: it may begin at this moment
        problem = message.problem or (error.__cause__ if isinstance(error, OperationalError) else None)
        late = PublishTimeoutError(task, timeout or 0, broker_of(app), str(problem or ""), message.begun)
        raise late from problem
    finally:
        message.awaited = False


def threads_of(app: Celery) -> DaemonThreads:
    """Return the threads with which an app sends off the event loop."""
    return _publishers.of(app).threads


def broker_of(app: Celery) -> str:
    """Return the URL of an app's broker, without a password."""
    url: str = app.connection_for_write().as_uri()
    return url


def _send_alone(message: AwaitedMessage, loop: asyncio.AbstractEventLoop) -> None:
    try:
        if message.awaited:
            message.send_alone()
    finally:
        with suppress(RuntimeError):  # the loop is closed, and nobody waits
            loop.call_soon_threadsafe(message.finish)
