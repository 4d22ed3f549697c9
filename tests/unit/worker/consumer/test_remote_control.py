"""Remote control's own greenlet, whose connection is lost."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from celery import bootsteps
from celery.worker.pidbox import gPidbox

from pico_celery_worker.consumer import remote_control
from pico_celery_worker.consumer.remote_control import RemoteControl
from tests.unit.worker.requests import consumer_of

CELERYS_LOOP = gPidbox.loop


class LostError(Exception):
    """A connection is lost."""


class RefusedError(Exception):
    """A channel is closed."""


@pytest.fixture
def consumer(make_app, monkeypatch) -> Any:
    monkeypatch.setattr(remote_control, "_PAUSE", 0)
    consumer = consumer_of(make_app())
    consumer.connection_errors, consumer.channel_errors = (LostError,), (RefusedError,)
    consumer.connection = object()
    consumer.blueprint.state = bootsteps.RUN
    return consumer


@pytest.fixture
def reading(consumer: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what makes a mailbox, whose loop ends in one way after another, and what is left of these."""

    def read(*outcomes: Any) -> Any:
        left = list(outcomes)

        def loop(*_: Any) -> None:
            outcome = left.pop(0)
            if callable(outcome) and not isinstance(outcome, type):
                outcome = outcome()
            if outcome is not None:
                raise outcome

        monkeypatch.setattr(gPidbox, "loop", loop)
        return RemoteControl(consumer).box, left

    return read


def test_celerys_reader_has_a_loop_that_is_looked_up_when_it_starts(consumer, reading):
    """Fails when Celery no longer has what is replaced."""
    started: list[Any] = []
    consumer.pool = SimpleNamespace(is_green=True, spawn_n=lambda *call: started.append(call))
    box, _ = reading()
    assert isinstance(box, gPidbox)
    box.start(consumer)
    assert started == [(box.loop, consumer)]
    assert gPidbox._node_stopped is gPidbox._node_shutdown is None
    assert {"_node_stopped", "_node_shutdown"} < {*CELERYS_LOOP.__code__.co_names}


def test_a_lost_connection_is_replaced(consumer, reading, caplog):
    box, left = reading(LostError, RefusedError("no"), None)
    box.loop(consumer)
    assert left == []
    assert [record.getMessage() for record in caplog.records] == [
        "Remote control has lost its connection (LostError()) and connects again",
        "Remote control has lost its connection (RefusedError('no')) and connects again",
    ]


def test_not_where_the_consumer_has_lost_its_own(consumer, reading):
    def lose() -> Exception:
        consumer.connection = None
        return LostError()

    box, left = reading(lose, None)
    box.loop(consumer)
    assert len(left) == 1


def test_not_where_the_worker_stops(consumer, reading):
    def stop() -> Exception:
        consumer.blueprint.state = bootsteps.CLOSE
        return LostError()

    box, left = reading(stop, None)
    box.loop(consumer)
    assert len(left) == 1


def test_not_where_another_reader_has_begun_meanwhile(consumer, reading):
    def begin_another() -> Exception:
        box.loop(consumer)
        return LostError()

    box, left = reading(begin_another, None, None)
    box.loop(consumer)
    assert len(left) == 1


def test_a_reader_that_is_busy_is_not_waited_for_without_end(consumer, reading, monkeypatch):
    monkeypatch.setattr(remote_control, "_STOP_TIMEOUT", 0.01)
    box, _ = reading()
    box.on_stop()
    shutdown = threading.Event()
    box._node_stopped, box._node_shutdown = threading.Event(), shutdown
    box.on_stop()
    assert shutdown.is_set()
    assert (box._node_stopped, box._node_shutdown) == (None, None)


def test_other_errors_are_not_hidden(consumer, reading):
    box, _ = reading(ValueError("x"))
    with pytest.raises(ValueError, match="x"):
        box.loop(consumer)
