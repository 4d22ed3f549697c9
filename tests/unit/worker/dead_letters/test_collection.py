"""Dead letters are kept whole, found, sent again and dropped, on each broker that keeps them."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery
from kombu.message import Message

from pico_celery_core.errors import DeadLetterNotFoundError, NoDeadLettersError
from pico_celery_worker.dead_letters import DeadLetter, DeadLetters, Reason
from pico_celery_worker.dead_letters.keeping import forget_connections, keep
from tests.waiting import eventually

pytestmark = pytest.mark.services


def send_and_take(app: Celery, name: str, *args: Any, **options: Any) -> Message:
    """Send a task, and take its message out of its queue as a worker would."""
    app.send_task(name, args, **options)
    return taken(app)


def taken(app: Celery) -> Any:
    with app.connection_for_read() as connection:
        queue = app.amqp.queues[app.conf.task_default_queue](connection.default_channel)

        def get() -> Any:
            return queue.get(no_ack=True)

        return eventually(get)


def test_what_is_sent_again_is_what_was_sent(app: Celery):
    """Under the same id, with the same body and links, its counts anew."""
    options = {
        "task_id": "7",
        "priority": 3,
        "compression": "zlib",
        "expires": 1,
        "retries": 2,
        "headers": {"own": "x"},
    }
    message = send_and_take(app, "orders.confirm", 1, link_error=app.signature("cry"), **options)
    assert keep(app, message, KeyError("orders.confirm"), Reason.UNKNOWN_TASK)
    letters = DeadLetters(app)
    (letter,) = letters.find()
    assert (letter.task, letter.task_id, letter.reason, letter.retries) == ("orders.confirm", "7", "unknown-task", 2)
    assert letter.error == "KeyError: 'orders.confirm'"
    assert (letter.routing_key, letter.redelivered) == (app.conf.task_default_queue, False)
    assert abs(datetime.now(UTC) - letter.died_at) < timedelta(hours=1)
    assert letters.retry("7") == [letter]
    assert letters.count() == 0
    again = taken(app)
    assert json.loads(again.body) == json.loads(message.body)
    assert again.payload[2]["errbacks"][0]["task"] == "cry"
    left_out = {"compression", "expires", "retries"}
    assert again.headers["retries"] == 0
    assert {name: value for name, value in again.headers.items() if name not in left_out} == {
        name: value for name, value in message.headers.items() if name not in left_out
    }
    for name in ("correlation_id", "reply_to", "priority"):
        assert again.properties[name] == message.properties[name]
    assert again.delivery_info["routing_key"] == message.delivery_info["routing_key"]


def test_what_cannot_be_read_is_kept_as_it_is(app: Celery):
    with app.producer_pool.acquire() as producer:
        body = b"\xff\x00{"
        app.amqp.queues[app.conf.task_default_queue](producer.channel).declare()
        producer.publish(body, routing_key=app.conf.task_default_queue, content_type="application/json", retry=False)
    keep(app, taken(app), ValueError("no JSON"), Reason.UNDECODABLE)
    (letter,) = DeadLetters(app).find()
    assert (letter.body, letter.task, letter.task_id) == (body, "", "")
    assert DeadLetters(app).retry(letter.id) == [letter]
    assert bytes(taken(app).body) == body


def test_filters(app: Celery):
    for name, task_id, error, reason in (
        ("a", "1", KeyError("a"), Reason.UNKNOWN_TASK),
        ("b", "2", ValueError("Too large"), Reason.FAILURE),
        ("b", "3", ValueError("too small"), Reason.FAILURE),
    ):
        keep(app, send_and_take(app, name, task_id=task_id), error, reason)
    app.conf.pico_dead_letters_failures = True
    letters = DeadLetters(app)
    assert [letter.task_id for letter in letters.find()] == ["1"]  # of failures only where the settings say so
    forget_connections()
    for task_id, error in (("2", ValueError("Too large")), ("3", ValueError("too small"))):
        keep(app, send_and_take(app, "b", task_id=task_id), error, Reason.FAILURE)

    def ids(*given: str, **filters: Any) -> list[str]:
        return sorted(letter.task_id for letter in letters.find(*given, **filters))

    assert [letter.task_id for letter in letters.find()] == ["3", "2", "1"]
    assert ids("1", "3") == ["1", "3"]
    assert ids(task="b") == ["2", "3"]
    assert ids(error="too l") == ["2"]
    assert ids(error="unknown-task") == ["1"]
    assert ids(task="b", error="keyerror") == []
    assert ids(since=timedelta(hours=1)) == ["1", "2", "3"]
    middle = letters.get("2").died_at
    assert ids(since=middle) == ["2", "3"]
    assert ids(since=middle.astimezone().replace(tzinfo=None)) == ["2", "3"]
    assert ids(since=datetime.now(UTC) + timedelta(days=1)) == []
    assert [letter.task_id for letter in letters.drop(task="b")] == ["2", "3"]
    assert ids() == ["1"]
    assert letters.count() == 1


def test_a_message_has_one_letter_however_often_it_dies(app: Celery):
    message = send_and_take(app, "a", task_id="1")
    for text in ("first", "second"):
        keep(app, message, KeyError(text), Reason.UNKNOWN_TASK)
    letters = DeadLetters(app)
    assert [letter.error for letter in letters.find()] == ["KeyError: 'second'"]
    assert len(letters.retry()) == 1
    assert letters.count() == 0


def test_two_messages_of_one_id_have_two(app: Celery):
    for value in (1, 2):
        keep(app, send_and_take(app, "a", value, task_id="1"), KeyError("a"), Reason.UNKNOWN_TASK)
    assert len(DeadLetters(app).find("1")) == 2


def test_there_is_none(app: Celery):
    letters = DeadLetters(app)
    assert (letters.find(), letters.retry(), letters.drop(), letters.count()) == ([], [], [], 0)
    with pytest.raises(DeadLetterNotFoundError, match="'7'"):
        letters.get("7")


def test_the_oldest_make_way(make_app: Callable[..., Celery], caplog: pytest.LogCaptureFixture):
    app = make_app(pico_dead_letters_limit=2)
    for task_id in "123":
        keep(app, send_and_take(app, "a", task_id=task_id), KeyError("a"), Reason.UNKNOWN_TASK)
    assert [letter.task_id for letter in DeadLetters(app).find()] == ["3", "2"]
    assert "more than 2 dead letters" in caplog.text


def test_a_letter_that_cannot_be_sent_stays(app: Celery, monkeypatch: pytest.MonkeyPatch):
    keep(app, send_and_take(app, "a"), KeyError("a"), Reason.UNKNOWN_TASK)
    monkeypatch.setattr(DeadLetter, "anew", lambda _: 1 / 0)
    letters = DeadLetters(app)
    with pytest.raises(ZeroDivisionError):
        letters.retry()
    eventually(lambda: letters.count() == 1)


@pytest.mark.parametrize("broker", ["memory://", "filesystem://"])
def test_other_brokers_keep_none(make_app: Callable[..., Celery], broker: str):
    with pytest.raises(NoDeadLettersError, match=broker):
        DeadLetters(make_app(broker_url=broker)).find()
