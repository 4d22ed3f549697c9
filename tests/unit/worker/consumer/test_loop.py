"""The receive loop of a worker with greenlets: messages are not held up, and heartbeats are sent, read and checked."""

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import amqp.connection
import kombu
import pytest
from celery import bootsteps
from celery.exceptions import WorkerShutdown
from celery.worker import loops, state
from kombu.asynchronous.timer import Timer

from pico_celery_worker.consumer.loop import ReceiveLoop
from pico_celery_worker.transports import with_reliable_transport
from tests import services


class LostError(ConnectionResetError):
    """The connection is lost."""


class Connection:
    """A connection to RabbitMQ, as far as the loop sees it: what happens when it is read, and what was asked of it."""

    connected = True
    supports_heartbeats = True
    connection_errors = (ConnectionResetError, EOFError)

    def __init__(self, *reads: Any, interval: float = 60) -> None:
        self.reads = list(reads)
        self.asked: list[Any] = []
        self.interval = interval
        self.connection = SimpleNamespace(send_heartbeat=lambda: self.asked.append("send"))
        self.transport = SimpleNamespace(driver_type="amqp")

    def drain_events(self, timeout: float | None = None) -> None:
        self.asked.append(("read", timeout))
        happens = self.reads.pop(0) if self.reads else None
        if callable(happens):
            happens = happens()
        if happens is not None:
            raise happens

    def heartbeat_check(self, rate: float) -> None:
        self.asked.append(("check", rate))

    def get_heartbeat_interval(self) -> float:
        return self.interval


class Consumer:
    """A connected consumer of Celery's, as far as the loop sees it."""

    def __init__(self, connection: Connection, events: Connection | None = None) -> None:
        self.connection: Any = connection
        self.event_dispatcher: Any = SimpleNamespace(connection=events, mutex=threading.Lock())
        self.amqheartbeat_rate = 2.0
        self.amqheartbeat = 60
        self.timer = Timer()
        self.blueprint = SimpleNamespace(state=bootsteps.RUN)
        self.done: list[str] = []
        self.qos: Any = SimpleNamespace(prev=1, value=1, update=lambda: self.done.append("prefetch updated"))
        self.task_consumer: Any = SimpleNamespace(consume=lambda: self.done.append("consume"))
        self.pool = SimpleNamespace(is_green=True)
        self.receive: Any = self.done.append

    def create_task_handler(self) -> Any:
        return self.receive

    def on_ready(self) -> None:
        self.done.append("ready")

    def perform_pending_operations(self) -> None:
        self.done.append("pending operations")

    def stop(self) -> None:
        self.blueprint.state = bootsteps.CLOSE

    def ticks(self) -> list[Any]:
        entries = {id(scheduled.entry): scheduled.entry for scheduled in self.timer.queue}
        return [entry for entry in entries.values() if not entry.canceled]

    def tick(self) -> None:
        """Do what is due the next time."""
        for entry in self.ticks():
            entry._last_run = None
            entry()


@pytest.fixture(autouse=True)
def _no_shutdown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "should_stop", None)
    monkeypatch.setattr(state, "should_terminate", None)


def consumer_that(*reads: Callable[[Consumer], Any], events: Connection | None = None) -> Consumer:
    """Return a consumer with a connection on which things happen, one at each read, and then the worker stops."""
    consumer = Consumer(Connection(), events)
    consumer.connection.reads = [lambda read=read: read(consumer) for read in (*reads, Consumer.stop)]
    return consumer


def nothing(_: Consumer) -> Exception:
    return TimeoutError()


def test_messages_are_received_until_the_worker_stops():
    consumer = consumer_that(nothing, lambda _: None)
    ReceiveLoop(consumer).run()
    assert consumer.done == ["consume", "ready", *["pending operations"] * 3]
    consumer.task_consumer.on_message("a message")
    assert consumer.done[-1] == "a message"
    assert consumer.connection.asked == [("read", 2.0)] * 3


def test_the_loop_ends_with_the_consumers_connection():
    consumer = consumer_that(lambda it: setattr(it, "connection", None))
    connection = consumer.connection
    ReceiveLoop(consumer).run()
    assert connection.asked == [("read", 2.0)]


def test_a_new_prefetch_count_is_sent():
    consumer = consumer_that()
    consumer.qos.value = 2
    ReceiveLoop(consumer).run()
    assert "prefetch updated" in consumer.done


def test_a_shutdown_ends_it_after_what_is_pending(monkeypatch):
    consumer = consumer_that()
    monkeypatch.setattr(state, "should_stop", 0)
    with pytest.raises(WorkerShutdown):
        ReceiveLoop(consumer).run()
    assert consumer.done[-1] == "pending operations"
    assert consumer.connection.asked == []
    assert len(consumer.ticks()) == 1  # tasks still end, and RabbitMQ has to know that the worker is there


def test_a_lost_connection_ends_it_and_its_heartbeats():
    consumer = consumer_that(lambda _: LostError(), events=Connection())
    with pytest.raises(LostError):
        ReceiveLoop(consumer).run()
    assert consumer.ticks() == []


def test_a_connection_that_is_closed_because_the_worker_stops_is_no_error():
    consumer = consumer_that(lambda it: it.stop() or LostError())
    ReceiveLoop(consumer).run()


def test_a_missed_heartbeat_is_a_lost_connection():
    def miss(_: float) -> None:
        raise LostError

    consumer = consumer_that(Consumer.tick, nothing)
    consumer.connection.heartbeat_check = miss
    with pytest.raises(LostError):
        ReceiveLoop(consumer).run()
    assert len(consumer.connection.asked) == 1


def test_heartbeats_are_checked_only_while_the_loop_reads():
    """What has come meanwhile is still to be read; a check would find that nothing has."""
    consumer = consumer_that(Consumer.tick)
    consumer.perform_pending_operations = consumer.tick  # type: ignore[method-assign]
    ReceiveLoop(consumer).run()
    assert consumer.connection.asked == ["send", ("read", 2.0), ("check", 2.0), "send", ("read", 2.0)]


def test_heartbeats_are_not_checked_while_a_message_waits_for_a_free_slot():
    def receive(_: Any) -> None:
        consumer.tick()

    def deliver(it: Consumer) -> None:
        it.task_consumer.on_message("a message")
        it.tick()

    consumer = consumer_that(deliver)
    consumer.receive = receive
    ReceiveLoop(consumer).run()
    assert consumer.connection.asked == [("read", 2.0), "send", ("check", 2.0), ("read", 2.0)]


def test_heartbeats_of_events_are_read_and_checked_without_waiting():
    events = Connection(TimeoutError(), BlockingIOError(), LostError(), EOFError())
    consumer = consumer_that(*[Consumer.tick] * 4, events=events)
    ReceiveLoop(consumer).run()
    assert events.asked == [("read", 0), ("check", 2.0)] * 4


def test_an_events_connection_that_is_not_open_is_not_read():
    events = Connection()
    events.connected = False
    ReceiveLoop(consumer := consumer_that(Consumer.tick, events=events)).run()
    assert events.asked == []
    assert consumer.connection.asked


def test_answers_to_an_event_that_is_being_sent_are_left_to_its_sender():
    events = Connection()

    def send(consumer: Consumer) -> None:
        with consumer.event_dispatcher.mutex:
            consumer.tick()

    ReceiveLoop(consumer_that(send, Consumer.tick, events=events)).run()
    assert events.asked == [("read", 0), ("check", 2.0)]


def test_an_error_of_ours_in_a_heartbeat_is_not_hidden():
    consumer = consumer_that(Consumer.tick, nothing, events=Connection(KeyError("x")))
    with pytest.raises(KeyError):
        ReceiveLoop(consumer).run()


@pytest.mark.parametrize("change", [{"supports_heartbeats": False}, {"interval": 0}])
def test_a_connection_without_heartbeats_has_none(change):
    events = Connection()
    vars(events).update(change)
    consumer = consumer_that(events=events)
    vars(consumer.connection).update(change)
    ReceiveLoop(consumer).run()
    assert consumer.ticks() == []


@pytest.mark.parametrize("dispatcher", [None, SimpleNamespace(connection=None)])
def test_a_worker_that_sends_no_events_has_one_connection(dispatcher):
    consumer = consumer_that()
    consumer.event_dispatcher = dispatcher
    ReceiveLoop(consumer).run()
    assert len(consumer.ticks()) == 1


def test_a_tick_that_comes_too_late_does_nothing():
    ticks: list[Any] = []
    consumer = consumer_that(lambda it: ticks.extend(it.ticks()) or LostError())
    with pytest.raises(LostError):
        ReceiveLoop(consumer).run()
    for entry in ticks:
        entry.fun(*entry.args)
    assert consumer.connection.asked == [("read", 2.0)]


def test_celerys_loop_would_wait_for_heartbeats_after_each_message():
    """Fails when Celery no longer does what the loop is for."""
    events = Connection(interval=0)
    consumer = consumer_that(events=events)
    loops.synloop(
        consumer,
        consumer.connection,
        consumer.task_consumer,
        consumer.blueprint,
        None,
        consumer.qos,
        consumer.amqheartbeat,
        None,
    )
    [(_, timeout)] = events.asked
    assert timeout > 0


def test_celerys_dispatcher_sends_under_its_mutex(make_app):
    sent = []
    with make_app().events.default_dispatcher() as dispatcher:
        dispatcher._publish = lambda *_, **__: sent.append(dispatcher.mutex.locked())
        dispatcher.send("worker-heartbeat")
    assert sent == [True]


@pytest.fixture
def rabbitmq() -> Iterator[kombu.Connection]:
    with with_reliable_transport(kombu.Connection(services.rabbitmq_url(), heartbeat=60)) as connection:
        yield connection.connect().client


@pytest.mark.services
@pytest.mark.parametrize("is_reading", [True, False])
def test_rabbitmqs_heartbeats_are_missed_only_while_the_loop_reads(rabbitmq, monkeypatch, is_reading):
    consumer = Consumer(rabbitmq)  # type: ignore[arg-type]
    rabbitmq.heartbeat_check()
    later = amqp.connection.monotonic() + 1000
    monkeypatch.setattr(amqp.connection, "monotonic", lambda: later)
    loop = ReceiveLoop(consumer)
    loop._is_reading = is_reading
    if is_reading:
        with pytest.raises(rabbitmq.connection_errors, match="Too many heartbeats missed"):
            loop._check()
    else:
        loop._check()
