"""What is wrong with a message, and what is wrong with something else."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from pico_celery_worker.consumer.failures import is_messages
from tests.unit.worker.requests import message_of


@pytest.fixture
def app() -> Iterator[Celery]:
    made = Celery("tests", broker="memory://", set_as_current=False)
    yield made
    made.close()


def body(value: Any, **headers: Any) -> Any:
    message = message_of("plain", **headers)
    message.body = json.dumps(value)
    return message


def first(**parts: Any) -> Any:
    """Return a message of Celery's first protocol."""
    message = body({"task": "plain", "id": "an-id", "args": [], "kwargs": {}, **parts})
    message.headers = {}
    return message


@pytest.mark.parametrize(
    "message",
    [
        message_of("plain"),
        message_of("plain", eta="2030-01-01T00:00:00", expires="2030-01-01T00:00:00", stamped_headers=["a"], stamps={}),
        body({"args": [1], "kwargs": {}}),
        first(),
        first(eta="2030-01-01T00:00:00"),
    ],
)
def test_what_celery_can_make_a_request_of_is_not_to_blame(app, message):
    assert not is_messages(AttributeError(), message, app)


@pytest.mark.parametrize(
    "message",
    [
        message_of("plain", eta=5),
        message_of("plain", expires=[]),
        message_of("plain", stamped_headers=[[]]),
        body([[], {}]),
        body(None),
        body({"args": [1], "kwargs": []}),
        first(eta=5),
        first(kwargs=[]),
    ],
)
def test_what_celery_can_make_no_request_of_is(app, message):
    assert is_messages(AttributeError(), message, app)


def test_the_lack_of_memory_is_no_messages_fault(app):
    message = message_of("plain", eta=5)
    assert not is_messages(MemoryError(), message, app)
    vars(message).update(headers=None)
    assert is_messages(AttributeError(), message, app)
