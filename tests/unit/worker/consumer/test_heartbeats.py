"""The broker's heartbeats are read without holding up the messages."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from celery import bootsteps
from celery.worker import loops, state
from kombu.asynchronous.timer import Timer

from pico_celery_worker.consumer.heartbeats import HeartbeatStep
from tests.unit.worker.applications import app_of
from tests.unit.worker.requests import consumer_of


class Connection:
    """The connection that events are sent over."""

    connected = True
    supports_heartbeats = True
    connection_errors = (ConnectionResetError, EOFError)

    def __init__(self, error: Exception | None = None) -> None:
        self.timeouts: list[Any] = []
        self.error = error

    def drain_events(self, timeout: float | None = None) -> None:
        self.timeouts.append(timeout)
        if self.error is not None:
            raise self.error

    def get_heartbeat_interval(self) -> float:
        return 0


class Parent:
    """A consumer of Celery's, as far as the step and Celery's loop see it."""

    def __init__(self, connection: Any = None) -> None:
        self.connection = connection or Connection()
        self.event_dispatcher: Any = SimpleNamespace(connection=self.connection, mutex=threading.Lock())
        self.hub: Any = None
        self.amqheartbeat: Any = 60
        self.timer = Timer()
        self.pool = SimpleNamespace(is_green=True)

    def create_task_handler(self) -> None: ...

    def perform_pending_operations(self) -> None: ...

    def on_ready(self) -> None: ...

    def entries(self) -> list[Any]:
        entries = {id(scheduled.entry): scheduled.entry for scheduled in self.timer.queue}
        return [entry for entry in entries.values() if not entry.canceled]

    def read(self) -> None:
        """Do what is due the next time."""
        [entry] = self.entries()
        entry._last_run = None
        entry()


def started(parent: Parent) -> HeartbeatStep:
    step = HeartbeatStep(parent)
    step.start(parent)
    return step


def run_celerys_loop(parent: Parent) -> None:
    """Let Celery's loop for greenlets take one message."""
    blueprint = SimpleNamespace(state=bootsteps.RUN)

    def drain_events(timeout: float) -> None:
        blueprint.state = bootsteps.CLOSE

    connection = SimpleNamespace(drain_events=drain_events, get_heartbeat_interval=lambda: 0)
    consumer = SimpleNamespace(consume=lambda: None)
    qos = SimpleNamespace(prev=1, value=1)
    loops.synloop(parent, connection, consumer, blueprint, None, qos, parent.amqheartbeat, None)


@pytest.fixture(autouse=True)
def _no_shutdown(monkeypatch):
    monkeypatch.setattr(state, "should_stop", None)
    monkeypatch.setattr(state, "should_terminate", None)


def test_celerys_loop_no_longer_waits_for_heartbeats():
    parent = Parent()
    started(parent)
    run_celerys_loop(parent)
    assert parent.connection.timeouts == []


def test_celerys_loop_would_wait_for_them():
    """Fails when Celery no longer does what the step is for."""
    parent = Parent()
    run_celerys_loop(parent)
    [timeout] = parent.connection.timeouts
    assert timeout > 0


def test_they_are_read_now_and_then_without_waiting():
    parent = Parent()
    started(parent)
    parent.read()
    parent.read()
    assert parent.connection.timeouts == [0, 0]


@pytest.mark.parametrize("error", [TimeoutError(), BlockingIOError(), ConnectionResetError(), EOFError()])
def test_nothing_to_read_and_a_lost_connection_are_for_others_to_find_out(error):
    parent = Parent(Connection(error))
    started(parent)
    parent.read()
    assert parent.connection.timeouts == [0]


def test_an_error_of_ours_is_not_hidden():
    parent = Parent(Connection(KeyError("x")))
    started(parent)
    with pytest.raises(KeyError):
        parent.read()


def test_a_connection_that_is_not_open_is_not_read():
    parent = Parent()
    parent.connection.connected = False
    started(parent)
    parent.read()
    assert parent.connection.timeouts == []


@pytest.mark.parametrize("end", ["stop", "terminate"])
def test_the_next_connection_has_a_heartbeat_again(end):
    parent = Parent()
    step = started(parent)
    assert parent.amqheartbeat == 0
    getattr(step, end)(parent)
    assert parent.amqheartbeat == 60
    assert parent.entries() == []
    step.start(parent)
    assert parent.amqheartbeat == 0
    assert len(parent.entries()) == 1


def test_to_stop_twice_gives_back_what_there_was():
    parent = Parent()
    step = started(parent)
    step.stop(parent)
    parent.amqheartbeat = 30
    step.stop(parent)
    assert parent.amqheartbeat == 30


@pytest.mark.parametrize(
    "change",
    [
        {"hub": object()},
        {"amqheartbeat": 0},
        {"amqheartbeat": None},
        {"event_dispatcher": None},
        {"event_dispatcher": SimpleNamespace(connection=None)},
        {"event_dispatcher": SimpleNamespace(connection=SimpleNamespace(supports_heartbeats=False))},
    ],
)
def test_where_there_is_nothing_to_read_celery_is_left_alone(change):
    parent = Parent()
    vars(parent).update(change)
    heartbeat = parent.amqheartbeat
    started(parent).stop(parent)
    assert parent.amqheartbeat == heartbeat
    assert parent.entries() == []


def test_it_comes_after_the_connection_for_events_and_before_the_loop():
    app = app_of(broker_url="memory://")
    consumer = consumer_of(app)
    names = [type(step).__name__ for step in consumer.blueprint.order]
    assert names.index("Events") < names.index("HeartbeatStep") < names.index("Evloop")
    app.close()


def test_answers_to_what_is_being_sent_are_left_to_who_sends_it():
    parent = Parent()
    started(parent)
    with parent.event_dispatcher.mutex:
        parent.read()
    assert parent.connection.timeouts == []
    parent.read()
    assert parent.connection.timeouts == [0]


def test_celerys_dispatcher_sends_under_its_mutex(make_app):
    sent = []
    with make_app().events.default_dispatcher() as dispatcher:
        dispatcher._publish = lambda *_, **__: sent.append(dispatcher.mutex.locked())
        dispatcher.send("worker-heartbeat")
    assert sent == [True]
