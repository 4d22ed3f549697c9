"""Checks of the messages that wait in the queues against the handlers of this code."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from celery.exceptions import InvalidTaskError
from kombu.exceptions import ContentDisallowed

from pico_celery_core.errors import MessageTooLargeError, NoDeadLettersError
from pico_celery_core.message_size import check_size, limit_decompression, max_message_size
from pico_celery_core.values.arguments import ArgumentError
from pico_celery_worker.cli.checks.finding import Finding, Severity
from pico_celery_worker.cli.inspection import Inspection, queues_of
from pico_celery_worker.consumer.validation import check as check_shape
from pico_celery_worker.dead_letters import Reason
from pico_celery_worker.dead_letters.waiting import WaitingMessages
from pico_celery_worker.tasks.task import AsyncTask

_HINTS: Final[Mapping[Reason, str]] = {
    Reason.ARGUMENTS: "Let the handler take the old arguments too, until these messages have run.",
    Reason.UNKNOWN_TASK: "Keep a handler of this name until these messages have run, unless other workers have one.",
    Reason.UNDECODABLE: "Look who sends it. A worker keeps it as a dead letter.",
    Reason.MALFORMED: "Look who sends it, and at accept_content. A worker keeps it as a dead letter.",
}


def check(inspection: Inspection, limit: int) -> Iterator[Finding]:
    """Look at the messages that wait.

    Args:
        inspection: The app.
        limit: How many messages of each queue are read from RabbitMQ at most.
    """
    largest = max_message_size(inspection.app.conf)
    limit_decompression(largest)
    waiting = WaitingMessages(inspection.app, queues_of(inspection), limit)
    problems: Counter[tuple[str, str, Reason, str]] = Counter()
    try:
        for waits in waiting:
            found = problem_of(inspection.app, waits.message, largest)
            if found is not None:
                problems[waits.queue, *found] += 1
    except NoDeadLettersError:
        text = "The messages in this broker cannot be read without taking them: only in Redis and RabbitMQ."
        yield Finding("unread-queue", Severity.WARNING, "broker_url", text, "Check them by a worker beside the others.")
    for (queue, task, reason, problem), number in sorted(problems.items(), key=str):
        messages = "1 message that waits" if number == 1 else f"{number} messages that wait"
        where = f"task {task!r} in queue {queue}" if task else f"queue {queue}"
        text = f"{messages} here would fail with this code ({reason}): {problem}."
        yield Finding("waiting-message", Severity.ERROR, where, text, _HINTS[reason])
    for queue, number in waiting.left_out.items():
        text = f"{number} of its messages were not read: only the first {limit} were."
        yield Finding("unread-queue", Severity.WARNING, f"queue {queue}", text, "Give a larger --queue-limit.")
    if waiting.taken:
        text = f"{waiting.taken} messages were taken from RabbitMQ to read them, and given back as redelivered ones."
        hint = "Where a quorum queue has a delivery limit, do not check it too often."
        yield Finding("unread-queue", Severity.INFO, "RabbitMQ", text, hint)


def problem_of(app: Any, message: Any, largest: int) -> tuple[str, Reason, str] | None:
    """Return for which task a message is, and why and how it would fail with an app, or None if it would not.

    Args:
        app: The app.
        message: The message, or None for what is none.
        largest: How large the body of a message may be, in bytes; 0 for any size.
    """
    if message is None:
        return "", Reason.UNDECODABLE, "it is no message of kombu's"
    headers = message.headers if isinstance(message.headers, Mapping) else {}
    name = headers.get("task")
    name = name if isinstance(name, str) else ""
    try:
        check_size(message.body, largest)
        check_shape(message)
        body = message.payload
        if not name:
            name = body["task"]
        arguments = (body["args"], body["kwargs"]) if isinstance(body, Mapping) else body[:2]
    except (InvalidTaskError, MessageTooLargeError, ContentDisallowed) as error:
        return name, Reason.MALFORMED, str(error).rstrip(".")
    except (LookupError, TypeError):
        return name, Reason.MALFORMED, "it is no message of a task"
    except Exception as error:  # noqa: BLE001  # a serializer may raise anything
        return name, Reason.UNDECODABLE, type(error).__name__
    task = app.tasks.get(name)
    if task is None:
        return name, Reason.UNKNOWN_TASK, "no task has this name"
    problem = _misfit(task, *arguments)
    return None if problem is None else (name, Reason.ARGUMENTS, problem)


def _misfit(task: Any, args: Any, kwargs: Any) -> str | None:
    """Return in what way arguments do not fit a handler; what a plain task takes is its own affair."""
    if not isinstance(task, AsyncTask):
        return None
    bound = [task] if task.handler.spec.options.get("bind") else []
    try:
        task.handler.signature.bind(*bound, *args, **kwargs)
        if task.values is not None:
            task.values.check(args, kwargs)
    except (TypeError, ArgumentError) as error:
        return str(error)
    return None
