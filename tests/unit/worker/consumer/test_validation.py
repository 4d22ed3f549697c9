"""What is wrong with a message is said, and it is rejected; see `test_validation_fuzz.py` too."""

import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import pytest
from celery import signals
from celery.exceptions import InvalidTaskError
from celery.worker import state
from kombu.exceptions import DecodeError
from kombu.message import Message
from kombu.serialization import prepare_accept_content
from pico_ioc import component

from pico_celery import task
from pico_celery_core.sensitive import Sensitive
from pico_celery_worker.consumer import validation as intake
from pico_celery_worker.consumer.consumer import ReliableConsumer
from pico_celery_worker.consumer.validation import check, rejecting_malformed
from tests.unit.worker.applications import app_of
from tests.unit.worker.requests import Channel, consumer_of, message_of, request_of

SECRET = "the-secret"


@component(scope="prototype")
class Tasks:
    @task("open")
    async def open(self, user: str = "", password: Annotated[str, Sensitive] = "") -> None: ...

    @task("plain")
    async def plain(self, user: str = "") -> None: ...


def message(headers: Any, body: Any) -> Message:
    made = Message(
        body=json.dumps(body),
        channel=Channel(),
        delivery_tag="tag",
        delivery_info={},
        properties={},
        content_type="application/json",
        content_encoding="utf-8",
    )
    made.headers = headers
    made.accept = prepare_accept_content(["json"])
    return made


def second(**headers: Any) -> Message:
    """Return a message of Celery's second protocol."""
    return message({"task": "plain", "id": "an-id", **headers}, [[], {}, {}])


def body(value: Any) -> Message:
    return message({"task": "plain", "id": "an-id"}, value)


def unusable(**headers: Any) -> Message:
    """Return a message that passes the check, but of which Celery cannot make a request."""
    made = second(**headers)
    made.properties = ["no mapping"]
    return made


def first(**parts: Any) -> Message:
    """Return a message of Celery's first protocol."""
    return message({}, {"task": "plain", "id": "an-id", "args": [], "kwargs": {}, **parts})


@pytest.mark.parametrize(
    "good",
    [
        second(),
        second(timelimit=[None, None], stamped_headers=["a"], stamps={"a": 1}, shadow="other", retries=3),
        second(timelimit=(1, 2.5), stamped_headers=None, stamps=None, shadow=None, retries=None),
        second(eta="2026-01-01T00:00:00+00:00", expires="9999-12-31T23:59:59", replaced_task_nesting=2, chord=None),
        second(eta="2026-01-01T00:00:00Z", expires="2026-01-01T00:00:00.123456", timelimit=[0, 10**9]),
        second(eta=datetime.now(UTC), retries=-1),
        body([[1], {"two": 2}, None]),
        body([[], {}, {"callbacks": None, "errbacks": [{}], "chain": [{}, {}]}]),
        body({"args": [], "kwargs": {}}),
        body({"args": []}),
        first(),
        message({}, {"task": "plain", "id": "an-id"}),
        message(None, "whatever"),
        message({}, "neither protocol: Celery refuses it"),
        message({}, {"no": "task"}),
    ],
)
def test_what_celery_sends_or_refuses_itself_passes(good):
    check(good)


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (message(["task"], []), "headers is not a mapping"),
        (second(task=3), "task is not a string"),
        (second(id=""), "id is missing or not a string"),
        (second(id=None), "id is missing or not a string"),
        (second(id=3), "id is missing or not a string"),
        (second(timelimit=3), "timelimit is not a pair of numbers of seconds that one can wait"),
        (second(timelimit=[1]), "timelimit is not a pair of numbers of seconds that one can wait"),
        (second(timelimit=[1, "2"]), "timelimit is not a pair of numbers of seconds that one can wait"),
        (second(timelimit=[-1, None]), "timelimit is not a pair of numbers of seconds that one can wait"),
        (second(stamped_headers="ab"), "stamped_headers is not a list of texts"),
        (second(stamps=[]), "stamps is not a mapping"),
        (second(shadow=3), "shadow is not a string"),
        (second(retries="3"), "retries is not an integer, or too large"),
        (second(timelimit=[10**400, None]), "timelimit is not a pair of numbers of seconds that one can wait"),
        (second(timelimit=[float("nan"), None]), "timelimit is not a pair of numbers of seconds that one can wait"),
        (second(timelimit=[None, float("inf")]), "timelimit is not a pair of numbers of seconds that one can wait"),
        (second(stamped_headers=[[1]]), "stamped_headers is not a list of texts"),
        (second(retries=10**400), "retries is not an integer, or too large"),
        (second(replaced_task_nesting=[]), "its depth of replacement is no number, or too large"),
        (second(eta=""), "its eta is no time in ISO 8601 that there is in every time zone"),
        (second(eta=5), "its eta is no time in ISO 8601 that there is in every time zone"),
        (second(eta="2026-01-01" + "0" * 1000), "its eta is no time in ISO 8601 that there is in every time zone"),
        (second(eta="9999-12-31T23:59:59-01:00"), "its eta is no time in ISO 8601 that there is in every time zone"),
        (second(expires="soon"), "its expires is no time in ISO 8601 that there is in every time zone"),
        (second(chain="x"), "chain is not a list of signatures"),
        (second(chord=[]), "its chord is no mapping"),
        (body([[], {}, {"chord": 5}]), "its chord is no mapping"),
        (body([[], {}, {"delivery_info": 5}]), "its delivery_info is no mapping"),
        (body(None), "body does not have three parts"),
        (body("abc"), "body does not have three parts"),
        (body([[], {}]), "body does not have three parts"),
        (body(["args", {}, {}]), "args is not a list"),
        (body([[], [], {}]), "kwargs is not a mapping"),
        (body([[], {}, []]), "the third part of body (embed) is not a mapping"),
        (body([[], {}, {"callbacks": {}}]), "callbacks is not a list of signatures"),
        (body([[], {}, {"errbacks": ["x"]}]), "errbacks is not a list of signatures"),
        (body([[], {}, {"chain": 1}]), "chain is not a list of signatures"),
        (
            body({"args": [], "timelimit": [10**400, 1]}),
            "timelimit is not a pair of numbers of seconds that one can wait",
        ),
        (body({"args": 3}), "args is not a list"),
        (body({"args": [], "kwargs": []}), "kwargs is not a mapping"),
        (first(id=3), "id is missing or not a string"),
        (first(args=None), "args is not a list"),
        (first(kwargs=None), "kwargs is not a mapping"),
    ],
)
def test_what_is_wrong_is_said(bad, problem):
    with pytest.raises(InvalidTaskError) as raised:
        check(bad)
    assert str(raised.value) == problem


def test_names_of_keyword_arguments_are_texts():
    bad = body(None)
    bad._decoded_cache = [[], {1: 2}, {}]
    with pytest.raises(InvalidTaskError, match="a key of kwargs is not a string"):
        check(bad)


@pytest.fixture
def consumer() -> Iterator[Any]:
    state.reset_state()
    app = app_of(Tasks, broker_url="memory://", backend_url="cache+memory://")
    made = consumer_of(app, kind=ReliableConsumer)
    made.update_strategies()
    yield made
    app.close()
    state.reset_state()
    state.should_stop = None


@pytest.fixture
def rejected() -> Iterator[list[Any]]:
    """What the signal `task_rejected` tells."""
    found: list[Any] = []
    signals.task_rejected.connect(lambda **told: found.append(told), weak=False, dispatch_uid="intake")
    yield found
    signals.task_rejected.disconnect(dispatch_uid="intake")


def answers(received: Any) -> list[str]:
    found: list[str] = received.channel.answers
    return found


def receiving(consumer: Any, receive: Callable[[Any], Any]) -> Any:
    """Put the check before something else than Celery's reception."""
    return rejecting_malformed(consumer, receive)


def test_a_message_is_received_as_celery_receives_it(consumer, rejected):
    received = message_of("plain")
    consumer.create_task_handler()(received)
    assert [request.message for request in consumer.requests] == [received]
    assert (answers(received), rejected) == ([], [])


def test_an_invalid_message_is_rejected_as_celery_rejects_one(consumer, rejected, caplog):
    received = body(None)
    consumer.create_task_handler()(received)
    assert answers(received) == ["rejected"]
    [told] = rejected
    assert (told["sender"], told["message"]) == (consumer, received)
    assert str(told["exc"]) == "body does not have three parts"
    assert "body does not have three parts" in caplog.text
    assert consumer.requests == []


def test_a_message_of_which_celery_makes_no_request_is_rejected(consumer, rejected, caplog):
    received = unusable(x="y" * 5000)
    consumer.create_task_handler()(received)
    assert answers(received) == ["rejected"]
    [told] = rejected
    assert (told["sender"], told["message"]) == (consumer, received)
    [record] = [record for record in caplog.records if record.name == intake.logger.name]
    assert record.getMessage().startswith("A message cannot be received and is rejected: AttributeError(")
    assert len(record.getMessage()) < 1200
    assert record.exc_info is not None
    assert state.should_stop is None


@pytest.mark.parametrize("error", [AttributeError("no grow"), RuntimeError(), KeyError("x"), MemoryError()])
def test_whatever_else_fails_the_message_stays_and_the_worker_ends(consumer, rejected, caplog, error):
    def fail(received: Any) -> None:
        state.task_reserved(request_of(consumer.app, received))
        raise error

    consumer.connection_errors = (*consumer.connection_errors, KeyError)  # as with kombu's Redis transport
    received = second()
    receiving(consumer, fail)(received)
    assert (answers(received), rejected) == ([], [])
    assert (state.should_stop, {*state.requests}) == (1, set())
    [record] = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert f"task plain[an-id] could not be received: {error!r}" in record.getMessage()
    assert record.exc_info is not None


def test_what_fails_when_a_request_begins_later_leaves_the_message_too(consumer, caplog):
    def begin(_: Any) -> None:
        raise RuntimeError("can't start new thread")

    consumer = consumer_of(consumer.app, kind=ReliableConsumer, begin=begin)
    received = second()
    request = request_of(consumer.app, received)
    state.task_reserved(request)
    consumer.on_task_request(request)  # as Celery's timer does, which only logs what that raises
    assert (answers(received), state.should_stop, {*state.requests}) == ([], 1, set())
    assert "can't start new thread" in caplog.text


def test_a_worker_that_stops_already_keeps_its_exit_code(consumer):
    def fail(_: Any) -> None:
        raise RuntimeError

    state.should_stop = 0
    receiving(consumer, fail)(second())
    assert state.should_stop == 0


def test_a_message_that_takes_more_memory_than_there_is_stays_with_the_broker(consumer):
    short, wrapped = DecodeError("x"), second()
    short.__cause__ = MemoryError()
    consumer.on_decode_error(wrapped, short)
    assert (answers(wrapped), state.should_stop) == ([], 1)
    compressed = second()
    consumer.on_decode_error(compressed, MemoryError())
    assert answers(compressed) == []


def test_any_other_that_cannot_be_decoded_is_dropped_as_celery_does(consumer):
    received = second()
    consumer.on_decode_error(received, DecodeError("x"))
    assert (answers(received), state.should_stop) == (["acknowledged"], None)


def test_one_that_has_been_answered_is_not_answered_again(consumer, rejected):
    def fail(received: Any) -> None:
        received.ack()
        raise RuntimeError("later")

    received = unusable()
    receiving(consumer, fail)(received)
    assert answers(received) == ["acknowledged"]
    assert len(rejected) == 1


def test_celery_forgets_a_request_whose_reception_fails(consumer):
    other = request_of(consumer.app, message_of("plain"))
    state.task_reserved(other)

    def fail(received: Any) -> None:
        state.task_reserved(request_of(consumer.app, received))
        raise RuntimeError("later")

    receiving(consumer, fail)(second())
    assert [*state.requests.values()] == [other]
    assert [*state.reserved_requests] == [other]


def test_a_rejection_that_does_not_reach_the_broker_is_logged(consumer, caplog):
    received = unusable()
    received.channel.is_broken = True
    consumer.connection_errors = (ConnectionError,)
    consumer.update_strategies()
    consumer.create_task_handler()(received)
    assert "Couldn't reject" in caplog.text


def test_the_loss_of_the_connection_is_not_the_messages_fault(consumer, rejected):
    consumer.connection_errors, consumer.channel_errors = (ConnectionResetError,), (BlockingIOError,)
    for error in (ConnectionResetError, BlockingIOError):

        def fail(_: Any, error: Any = error) -> None:
            raise error

        received = second()
        with pytest.raises(error):
            receiving(consumer, fail)(received)
        assert (answers(received), rejected, state.should_stop) == ([], [], None)


def test_what_cannot_be_decoded_is_left_to_celery(consumer, caplog):
    caplog.set_level(logging.DEBUG, intake.logger.name)
    passed: list[Any] = []
    received = second()
    received.body = b"\xff{"
    receiving(consumer, passed.append)(received)
    assert passed == [received]
    assert "A message cannot be checked" in caplog.text


def test_an_invalid_message_shows_no_sensitive_argument(consumer, caplog):
    for sent in (message({"task": "open", "id": "an-id", "timelimit": 5}, [["ada", SECRET], {}, {}]), first(id=3)):
        sent.headers.setdefault("argsrepr", f"('ada', '{SECRET}')")
        consumer.create_task_handler()(sent)
        assert answers(sent) == ["rejected"]
    assert "timelimit is not a pair of numbers of seconds that one can wait" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("sent", [{"id": "an-id", "task": "nobody knows"}, {"id": "", "task": "open"}])
def test_what_is_refused_does_not_show_what_its_sender_masked(consumer, caplog, sent):
    received = message({**sent, "argsrepr": "('***',)", "kwargsrepr": "{}"}, [[SECRET], {}, {}])
    consumer.create_task_handler()(received)
    assert answers(received) == ["rejected"]
    assert "***" in caplog.text
    assert SECRET not in caplog.text
