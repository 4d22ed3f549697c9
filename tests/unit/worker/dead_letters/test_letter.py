"""A dead letter says what is known of its message, whatever that is."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings

from pico_celery_worker.dead_letters import DeadLetter, Reason
from tests.unit.worker.messages import headers
from tests.unit.worker.requests import message_of


def letter_of(message: Any) -> DeadLetter:
    return DeadLetter.of(message, KeyError("x"), Reason.MALFORMED)


@settings(max_examples=50, deadline=None)
@given(headers("a"))
def test_whatever_a_message_has_for_headers_comes_back(headers: Any):
    message = message_of("a")
    message.headers = headers
    letter = letter_of(message)
    back = DeadLetter.from_json(letter.to_json())
    assert repr(back.headers) == repr(letter.headers)
    assert (back.id, back.died_at, back.body, back.error) == (letter.id, letter.died_at, letter.body, letter.error)


def test_a_message_of_the_first_protocol_says_it_in_its_body():
    message = message_of("a")
    message.headers = {}
    message.body = json.dumps({"task": "old", "id": "7", "retries": 3, "args": [], "kwargs": {}})
    letter = letter_of(message)
    assert (letter.task, letter.task_id, letter.retries) == ("old", "7", 3)
    assert letter.anew().body == letter.body


@pytest.mark.parametrize("part", ["headers", "delivery_info", "properties"])
def test_a_part_that_is_something_else_is_borne(part: str):
    message = message_of("a")
    setattr(message, part, ["something", "else"])
    assert DeadLetter.from_json(letter_of(message).to_json()).reason is Reason.MALFORMED


def test_sent_anew_it_has_nothing_behind_it():
    message = message_of("a", "7", expires="2020-01-01T00:00:00", redelivered=True, own=1)
    message.headers["retries"] = 4
    anew = letter_of(message).anew()
    assert {name: anew.headers.get(name) for name in ("id", "retries", "own", "expires", "redelivered")} == {
        "id": "7",
        "retries": 0,
        "own": 1,
        "expires": None,
        "redelivered": None,
    }


def test_a_long_error_is_cut():
    letter = DeadLetter.of(message_of("a"), ValueError("x" * 10**6), Reason.FAILURE)
    assert len(letter.to_json()) < 10**5


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"reason": "bad luck"}', b"\xff"])
def test_what_is_no_letter_is_said_to_be_none(text: Any):
    with pytest.raises(ValueError, match="dead letter"):
        DeadLetter.from_json(text)


def test_a_letter_of_a_later_version_can_be_read():
    letter = letter_of(message_of("a"))
    assert DeadLetter.from_json(json.dumps({**json.loads(letter.to_json()), "more": 1})) == letter
    assert letter.died_at <= datetime.now(UTC)
