"""send_all: many signatures sent at once."""

import logging
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any, TypeVar, overload

from pico_celery_client.interceptor import is_on_a_loop
from pico_celery_client.publishing.many import publish_many, publish_many_here
from pico_celery_client.publishing.patterns import CallMessage
from pico_celery_client.results.result import TaskResult
from pico_celery_client.signatures import TaskSignature
from pico_celery_core.errors import DeclarationError, NotAllSentError
from pico_celery_core.timeouts import Timeouts

_R = TypeVar("_R")

logger = logging.getLogger(__name__)


@overload
async def send_all(
    signatures: Iterable[TaskSignature[_R]], *, publish_timeout: float | None = None
) -> list[TaskResult[_R]]: ...
@overload
async def send_all(
    signatures: Iterable[TaskSignature[Any]], *, publish_timeout: float | None = None
) -> list[TaskResult[Any]]: ...


async def send_all(
    signatures: Iterable[TaskSignature[Any]], *, publish_timeout: float | None = None
) -> list[TaskResult[Any]]:
    """Send what many signatures stand for, in batches, without blocking the event loop.

    Args:
        signatures: The signatures, as `signature` makes them.
        publish_timeout: How long the broker may take for each batch, of a hundred messages at most, in seconds; without
            it, `pico_publish_timeout`. 0 waits for as long as Celery tries.

    Returns:
        The results, in the order of the signatures.

    Raises:
        CallError: If a signature lacks an argument. Nothing is sent then.
        NotAllSentError: If some could not be sent. It has the results of the others, and the causes.

    Example:
        >>> from pico_celery import send_all, signature
        >>> async def confirm_all(client, orders: list[int]) -> list[str]:
        ...     return [result.id for result in await send_all(signature(client.confirm, order) for order in orders)]
    """
    with ExitStack() as around:
        messages = _messages(signatures, around)
        if messages:
            limit = Timeouts.of(messages[0].app).publish if publish_timeout is None else publish_timeout
            await publish_many(messages, limit or None)
        for message in messages:
            if isinstance(message.outcome, TaskResult):
                # Each thread has a backend of its own. Celery's ResultSet reads the caller's, not the sending thread's.
                message.outcome.backend = message.app.backend
        return _results(messages)


@overload
def send_all_sync(signatures: Iterable[TaskSignature[_R]]) -> list[TaskResult[_R]]: ...
@overload
def send_all_sync(signatures: Iterable[TaskSignature[Any]]) -> list[TaskResult[Any]]: ...


def send_all_sync(signatures: Iterable[TaskSignature[Any]]) -> list[TaskResult[Any]]:
    """Send what many signatures stand for, in batches, and wait for the broker on this thread.

    Args:
        signatures: The signatures, as `signature` makes them.

    Returns:
        The results, in the order of the signatures.

    Raises:
        CallError: If a signature lacks an argument. Nothing is sent then.
        NotAllSentError: If some could not be sent. It has the results of the others, and the causes.

    Example:
        >>> from pico_celery import send_all_sync, signature
        >>> def confirm_all(client, orders: list[int]) -> list[str]:
        ...     return [result.id for result in send_all_sync(signature(client.confirm, order) for order in orders)]
    """
    with ExitStack() as around:
        messages = _messages(signatures, around)
        if messages and is_on_a_loop():
            logger.warning(
                "send_all_sync() was called on a running event loop, which stands still while it sends. "
                "Await send_all()."
            )
        publish_many_here(messages)
        return _results(messages)


def _messages(signatures: Iterable[Any], around: ExitStack) -> list[CallMessage]:
    messages = []
    for made in signatures:
        if not isinstance(made, TaskSignature):
            hint = "Make signatures of stubs with signature(client.confirm, ...)."
            raise DeclarationError("send_all()", repr(made), "it is not a TaskSignature", hint)
        messages.append(made.message(around))
    return messages


def _results(messages: Sequence[CallMessage]) -> list[TaskResult[Any]]:
    outcomes = [message.outcome for message in messages]
    failed = next((outcome for outcome in outcomes if not isinstance(outcome, TaskResult)), None)
    if failed is not None:
        raise NotAllSentError.of(outcomes) from failed
    return outcomes
