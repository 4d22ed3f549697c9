"""A message is kept before it is given up, and if it cannot be kept it is not given up."""

import logging
from collections.abc import Callable

import pytest
from celery import Celery

from pico_celery_core.errors import SettingsError
from pico_celery_worker.dead_letters import DeadLetters, Reason, keeping
from pico_celery_worker.dead_letters.keeping import keep
from tests.unit.worker.requests import message_of

ERROR = KeyError("unknown")


def test_where_it_is_off_nothing_is_kept(make_app: Callable[..., Celery]):
    app = make_app(pico_dead_letters=False)
    assert keep(app, message_of("unknown"), ERROR, Reason.UNKNOWN_TASK)
    assert DeadLetters(app).count() == 0


@pytest.mark.parametrize(("setting", "number"), [("true", 1), (False, 0)])
def test_failures_are_kept_where_that_is_asked_for(make_app: Callable[..., Celery], setting: object, number: int):
    app = make_app(pico_dead_letters_failures=setting)
    assert keep(app, message_of("plain"), ERROR, Reason.FAILURE, "the traceback")
    found = DeadLetters(app).find()
    assert [letter.traceback for letter in found] == ["the traceback"] * number


def test_what_could_not_be_kept_is_not_given_up(make_app: Callable[..., Celery], caplog: pytest.LogCaptureFixture):
    app = make_app(broker_url="redis://localhost:1")
    assert not keep(app, message_of("unknown", "7"), ERROR, Reason.UNKNOWN_TASK)
    record = next(record for record in caplog.records if record.levelno == logging.CRITICAL)
    assert "unknown[7] (unknown-task) could not be kept" in record.getMessage()
    assert vars(record)["event"] == "dead-letter-not-kept"


def test_a_lost_connection_is_made_again(make_app: Callable[..., Celery], monkeypatch: pytest.MonkeyPatch):
    app, made, before = make_app(), [], keeping.kept[Reason.UNKNOWN_TASK]
    real = keeping.connected
    monkeypatch.setattr(keeping, "connected", lambda app: made.append(real(app)) or made[-1])
    for number in "12":
        assert keep(app, message_of("unknown", number), ERROR, Reason.UNKNOWN_TASK)
    assert len(made) == 1
    made[0].default_channel.client.hset = None  # whatever is wrong with it
    made[0].collect()
    assert keep(app, message_of("unknown", "3"), ERROR, Reason.UNKNOWN_TASK)
    assert DeadLetters(app).count() == keeping.kept[Reason.UNKNOWN_TASK] - before == 3


def test_another_broker_says_that_it_keeps_none(make_app: Callable[..., Celery], caplog: pytest.LogCaptureFixture):
    assert keep(make_app(broker_url="memory://"), message_of("unknown"), ERROR, Reason.UNKNOWN_TASK)
    assert "dead letters are kept in Redis and RabbitMQ, not in memory://" in caplog.text


@pytest.mark.parametrize(
    ("setting", "value"),
    [("pico_dead_letters", "perhaps"), ("pico_dead_letters_limit", 0), ("pico_dead_letters_max_age", "a week")],
)
def test_a_setting_that_cannot_be_is_refused(make_app: Callable[..., Celery], setting: str, value: object):
    with pytest.raises(SettingsError, match=setting):
        keep(make_app(**{setting: value}), message_of("unknown"), ERROR, Reason.UNKNOWN_TASK)
