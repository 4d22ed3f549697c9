"""Requests for tests: messages of tasks as a worker has received them, by a channel that remembers its answers."""

import itertools
import json
import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from celery import Celery
from celery.worker import state
from celery.worker.consumer import Consumer
from kombu.message import Message
from kombu.serialization import prepare_accept_content

from pico_celery_worker.consumer.request import AsyncRequest

_numbers = itertools.count()


class Channel:
    """Where messages come from, and are answered, as far as the connection is there."""

    def __init__(self) -> None:
        self.answers: list[str] = []
        self.no_ack_consumers: set[str] | None = None
        self.is_open = True
        self.is_broken = False

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        self._answer("acknowledged")

    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None:
        self._answer("requeued" if requeue else "rejected")

    def _answer(self, answer: str) -> None:
        if self.is_broken or not self.is_open:
            raise ConnectionResetError("the connection is lost")
        self.answers.append(answer)


def message_of(
    name: str, task_id: str | None = None, *, channel: Any = None, args: Any = (), **headers: Any
) -> Message:
    """Return a task's message as Celery sends it, with a delivery tag that no other has."""
    message = Message(
        body=json.dumps([args, {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]),
        headers={"task": name, "id": task_id or str(uuid.uuid4()), "lang": "py", "retries": 0, **headers},
        content_type="application/json",
        content_encoding="utf-8",
        channel=channel or Channel(),
        delivery_tag=f"tag {next(_numbers)}",
        delivery_info={},
        properties={},
    )
    message.accept = prepare_accept_content(["json"])
    return message


def request_of(app: Celery, message: Message, kind: Any = AsyncRequest) -> Any:
    """Return a request for a message, which answers at once, as in a worker with greenlets."""
    return kind(
        message,
        app=app,
        on_ack=message.ack_log_error,
        on_reject=message.reject_log_error,
        connection_errors=(ConnectionError,),
    )


def info_of(error: BaseException) -> ExceptionInfo:
    """Return what a pool tells of an exception."""
    with pytest.raises(type(error)) as caught:
        raise error
    return ExceptionInfo((caught.type, caught.value, caught.tb))


def consumer_of(
    app: Celery, *, kind: Any = Consumer, is_green: bool = True, hub: Any = None, begin: Any = None, **options: Any
) -> Any:
    """Return a consumer of Celery's that has no connection yet, and the list `requests` of what it would run."""
    requests: list[Any] = []
    consumer = kind(
        begin or requests.append,
        app=app,
        pool=SimpleNamespace(is_green=is_green, num_processes=1, apply_async=None),
        controller=SimpleNamespace(state=state, semaphore=None, consumer=None, use_eventloop=False),
        hub=hub,
        disable_rate_limits=True,
        **{"timer": SimpleNamespace(call_at=None), **options},
    )
    consumer.event_dispatcher = None
    consumer.requests = requests
    return consumer
