"""The consumers of our workers use our transports, and give up a connection but not what runs."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from amqp.channel import Channel
from celery import Celery
from celery.bootsteps import ConsumerStep
from celery.worker.consumer import Consumer
from celery.worker.consumer import consumer as celery_consumer
from kombu.asynchronous.timer import Timer
from kombu.transport import pyamqp
from kombu.transport.memory import Transport

from pico_celery_worker.consumer import consumer as module
from pico_celery_worker.consumer.consumer import GreenConsumer, PicoConsumer
from pico_celery_worker.consumer.unacked import Deliveries
from pico_celery_worker.transports.redis import ReservingChannel
from tests.unit.worker.requests import consumer_of


@pytest.fixture
def make_app() -> Iterator[Callable[..., Celery]]:
    apps = []

    def make(broker: str = "memory://", **settings: Any) -> Celery:
        app = Celery("tests", broker=broker, set_as_current=False)
        app.conf.update(settings)
        apps.append(app)
        return app

    yield make
    for app in apps:
        app.close()


@pytest.fixture(autouse=True)
def deliveries(monkeypatch) -> Deliveries:
    own = Deliveries()
    monkeypatch.setattr(module, "deliveries", own)
    return own


def transports(consumer: Any) -> list[Any]:
    """Return what the consumer's two kinds of connections would go by."""
    consumer.ensure_connected = lambda connection: connection
    connections = consumer.connection_for_read(heartbeat=10), consumer.connection_for_write(heartbeat=10)
    assert [connection.heartbeat for connection in connections] == [10, 10]
    return [connection.get_transport_cls() for connection in connections]


@pytest.mark.parametrize("kind", [PicoConsumer, GreenConsumer])
def test_messages_of_redis_are_taken_in_one_step(make_app, kind):
    consumer = consumer_of(make_app("redis://localhost"), kind=kind)
    assert all(issubclass(transport.Channel, ReservingChannel) for transport in transports(consumer))


@pytest.mark.parametrize("kind", [PicoConsumer, GreenConsumer])
def test_nobody_waits_without_end_for_rabbitmq(make_app, kind):
    for transport in transports(consumer_of(make_app("amqp://localhost"), kind=kind)):
        assert issubclass(transport, pyamqp.Transport)
        assert transport is not pyamqp.Transport


def test_other_brokers_are_reached_as_celery_does(make_app):
    assert transports(consumer_of(make_app(), kind=GreenConsumer)) == [Transport] * 2


def test_events_may_go_to_a_broker_of_their_own(make_app):
    consumer = consumer_of(make_app(), kind=PicoConsumer)
    consumer.ensure_connected = lambda connection: connection
    assert consumer.connection_for_write("redis://elsewhere").hostname == "elsewhere"


def test_a_connection_is_there_when_it_is_asked_for(make_app):
    consumer = consumer_of(make_app(broker_connection_retry_on_startup=True), kind=PicoConsumer)
    with consumer.connection_for_read() as read, consumer.connection_for_write() as write:
        assert read.connected
        assert write.connected


@pytest.mark.parametrize(("kind", "timeout"), [(GreenConsumer, 3), (Consumer, None)])
def test_under_gevent_an_attempt_to_connect_ends(make_app, monkeypatch, kind, timeout):
    """Fails for Celery's own consumer when that no longer does what ours undoes."""
    monkeypatch.setattr(celery_consumer, "_detect_environment", lambda: "gevent")
    app = make_app(broker_connection_timeout=3)
    consumer_of(app, kind=kind)
    assert app.conf.broker_connection_timeout == timeout


@pytest.mark.parametrize(
    ("kind", "settings", "fewer"),
    [
        (GreenConsumer, {}, False),
        (GreenConsumer, {"worker_enable_prefetch_count_reduction": True}, True),
        (PicoConsumer, {}, True),
    ],
)
def test_after_a_reconnection_greenlets_take_as_many_messages_as_before(make_app, kind, settings, fewer):
    app = make_app(**settings)
    consumer_of(app, kind=kind)
    assert app.conf.worker_enable_prefetch_count_reduction is fewer


def test_greenlets_keep_their_messages_and_answer_a_few_at_a_time(make_app, deliveries):
    consumer_of(make_app(), kind=GreenConsumer)
    assert deliveries.are_kept
    passed = 0
    while deliveries._gate.acquire(blocking=False):
        passed += 1
    assert 1 < passed < 100


@pytest.mark.parametrize("options", [{"kind": PicoConsumer}, {"kind": GreenConsumer, "hub": object()}])
def test_others_do_not(make_app, deliveries, options):
    consumer_of(make_app(), **options)
    assert not deliveries.are_kept


class RefusedError(Exception):
    """What a broker says that refuses something."""


def looping(make_app: Any, **settings: Any) -> Any:
    """Return a consumer whose loop is refused something."""

    def refuse(*_: Any) -> None:
        raise RefusedError("read only")

    class Looping(PicoConsumer):
        loop = staticmethod(refuse)

    consumer = consumer_of(make_app("redis://localhost", **settings), kind=Looping)
    consumer.channel_errors = (RefusedError,)
    return consumer


def test_a_broker_that_refuses_something_is_taken_for_one_that_is_lost(make_app):
    consumer = looping(make_app)
    with pytest.raises(consumer.connection_errors, match=r"The broker refused something: .*read only") as caught:
        consumer.loop()
    assert isinstance(caught.value.__cause__, RefusedError)
    assert consumer.app.conf.broker_channel_error_retry is True


def test_unless_the_user_wants_that_to_end_the_worker(make_app):
    consumer = looping(make_app, broker_channel_error_retry=False)
    with pytest.raises(RefusedError):
        consumer.loop()
    assert consumer.app.conf.broker_channel_error_retry is False


def test_the_loop_is_held_up_while_it_waits_for_room_and_nobody_else_counts(make_app):
    seen = []
    consumer = consumer_of(make_app(), kind=GreenConsumer)
    begin = consumer._noting_that_it_waits(lambda _: seen.append(consumer.is_held_up()))
    begin("by another greenlet")
    ready(consumer, "redis")
    begin("by the loop")
    assert (seen, consumer.is_held_up()) == ([False, True], False)


def ready(consumer: Any, driver_type: str) -> list[Any]:
    """Give the consumer what it has when its loop begins, and return how the channel is asked to cancel."""
    asked: list[Any] = []
    consumer.connection = SimpleNamespace(transport=SimpleNamespace(driver_type=driver_type))
    channel = SimpleNamespace(basic_cancel=lambda *args, **options: asked.append((args, options)))
    consumer.task_consumer = SimpleNamespace(channel=channel)
    consumer.qos = None
    assert consumer.loop_args() == Consumer.loop_args(consumer)
    channel.basic_cancel("a tag")
    return asked


def test_under_greenlets_rabbitmqs_consumers_are_cancelled_without_waiting(make_app):
    assert ready(consumer_of(make_app(), kind=GreenConsumer), "amqp") == [(("a tag",), {"nowait": True})]


@pytest.mark.parametrize(("kind", "driver_type"), [(GreenConsumer, "redis"), (PicoConsumer, "amqp")])
def test_other_consumers_are_cancelled_as_celery_does(make_app, kind, driver_type):
    assert ready(consumer_of(make_app(), kind=kind), driver_type) == [(("a tag",), {})]


def test_py_amqp_can_cancel_without_waiting():
    sent: list[Any] = []
    channel = SimpleNamespace(
        connection=object(), cancel_callbacks={}, callbacks={}, no_ack_consumers=set(), wait=pytest.fail
    )
    channel.send_method = lambda *args, **options: sent.append(options.get("wait"))
    Channel.basic_cancel(channel, "a tag", nowait=True)
    assert sent == [None]


class Lost:
    """A connection that is lost, and what becomes of it."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def collect(self, socket_timeout: Any = None) -> None:
        self.log.append("collected")

    def close(self) -> None:
        self.log.append("closed")


@pytest.fixture
def lose(make_app, deliveries, monkeypatch) -> Callable[..., list[str]]:
    """Lose a consumer's connection, and return what happens, in its order."""

    def lose(*, kind: Any = GreenConsumer, timer: Any = None, **settings: Any) -> list[str]:
        log: list[str] = []
        monkeypatch.setattr(deliveries, "hold", lambda channel: log.append("held"))
        if timer is None:
            timer = SimpleNamespace(end_heartbeats=lambda: log.append("heartbeats ended"))
        app = make_app(worker_enable_prefetch_count_reduction=False, **settings)
        consumer = consumer_of(app, kind=kind, timer=timer)
        consumer.connection = Lost(log)
        consumer.on_connection_error_after_connected(ConnectionResetError())
        assert not consumer.connection
        return log

    return lose


def test_what_runs_is_held_before_its_connection_is_given_up(lose):
    with pytest.warns(PendingDeprecationWarning, match="late acknowledgement"):
        assert lose() == ["held", "heartbeats ended", "collected", "closed"]


@pytest.mark.parametrize("kind", [PicoConsumer, GreenConsumer])
def test_what_was_settled_is_remembered_beyond_a_lost_connection(lose, deliveries, kind):
    deliveries.settled.note(("key",), False)
    with pytest.warns(PendingDeprecationWarning, match="late acknowledgement"):
        lose(kind=kind)
    assert [*deliveries.settled._at_losses] == [("key",)]


def test_what_is_to_be_cancelled_is_not_held(lose):
    log = lose(worker_cancel_long_running_tasks_on_connection_loss=True)
    assert log == ["heartbeats ended", "collected", "closed"]


def test_a_timer_that_ends_its_heartbeats_itself_is_left_to_it(lose):
    with pytest.warns(PendingDeprecationWarning, match="late acknowledgement"):
        assert lose(timer=Timer()) == ["held", "collected", "closed"]


def test_without_greenlets_a_connection_is_given_up_as_celery_does(lose):
    with pytest.warns(PendingDeprecationWarning, match="late acknowledgement"):
        assert lose(kind=PicoConsumer) == ["collected", "closed"]


def test_what_came_by_a_lost_connection_can_be_stopped(make_app):
    """Celery's step ignores the errors of the connection that is there by then, and there is none."""
    consumer = consumer_of(make_app(), kind=PicoConsumer)
    consumer.connection = None
    lost = consumer.connection_errors[0]

    class Messages:
        channel = None

        @staticmethod
        def cancel() -> None:
            raise lost

    step = ConsumerStep(consumer)
    step.consumers = [Messages()]
    step.stop(consumer)
    assert not consumer.connection
    connection = consumer.connection = consumer.conninfo
    assert consumer.connection is connection
