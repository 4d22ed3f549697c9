"""The consumers of our workers use our transports, and give up a connection but not what runs."""

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.bootsteps import ConsumerStep, StartStopStep
from celery.exceptions import InvalidTaskError
from celery.worker import loops, state
from celery.worker.consumer import Consumer
from celery.worker.consumer import consumer as celery_consumer
from kombu.exceptions import DecodeError
from kombu.transport import pyamqp
from kombu.transport.memory import Transport
from kombu.utils.imports import symbol_by_name
from pico_ioc import component

from pico_celery import task
from pico_celery_worker.consumer import consumer as module
from pico_celery_worker.consumer import request as request_module
from pico_celery_worker.consumer.consumer import GreenConsumer, ReliableConsumer, derive_consumer
from pico_celery_worker.consumer.unacked import UnackedMessages
from pico_celery_worker.transports.redis import ReservingChannel
from tests.unit.worker.requests import consumer_of, message_of, request_of


@pytest.fixture
def make_app() -> Iterator[Callable[..., Celery]]:
    apps = []

    def make(broker: str = "memory://", **settings: Any) -> Celery:
        app = Celery("tests", broker=broker, backend="cache+memory://", set_as_current=False)
        app.conf.update(settings)
        apps.append(app)
        return app

    yield make
    for app in apps:
        app.close()


@pytest.fixture(autouse=True)
def unacked_messages(monkeypatch) -> UnackedMessages:
    own = UnackedMessages()
    monkeypatch.setattr(module, "unacked_messages", own)
    return own


def transports(consumer: Any) -> list[Any]:
    """Return what the consumer's two kinds of connections would go by."""
    consumer.ensure_connected = lambda connection: connection
    connections = consumer.connection_for_read(heartbeat=10), consumer.connection_for_write(heartbeat=10)
    assert [connection.heartbeat for connection in connections] == [10, 10]
    return [connection.get_transport_cls() for connection in connections]


@pytest.mark.parametrize("kind", [ReliableConsumer, GreenConsumer])
def test_messages_of_redis_are_taken_in_one_step(make_app, kind):
    consumer = consumer_of(make_app("redis://localhost"), kind=kind)
    assert all(issubclass(transport.Channel, ReservingChannel) for transport in transports(consumer))


@pytest.mark.parametrize("kind", [ReliableConsumer, GreenConsumer])
def test_nobody_waits_without_end_for_rabbitmq(make_app, kind):
    for transport in transports(consumer_of(make_app("amqp://localhost"), kind=kind)):
        assert issubclass(transport, pyamqp.Transport)
        assert transport is not pyamqp.Transport


def test_other_brokers_are_reached_as_celery_does(make_app):
    assert transports(consumer_of(make_app(), kind=GreenConsumer)) == [Transport] * 2


def test_events_may_go_to_a_broker_of_their_own(make_app):
    consumer = consumer_of(make_app(), kind=ReliableConsumer)
    consumer.ensure_connected = lambda connection: connection
    assert consumer.connection_for_write("redis://elsewhere").hostname == "elsewhere"


def test_a_connection_is_there_when_it_is_asked_for(make_app):
    consumer = consumer_of(make_app(broker_connection_retry_on_startup=True), kind=ReliableConsumer)
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
        (ReliableConsumer, {}, True),
    ],
)
def test_after_a_reconnection_greenlets_take_as_many_messages_as_before(make_app, kind, settings, fewer):
    app = make_app(**settings)
    consumer_of(app, kind=kind)
    assert app.conf.worker_enable_prefetch_count_reduction is fewer


def test_greenlets_keep_their_messages_and_answer_a_few_at_a_time(make_app, unacked_messages, monkeypatch):
    consumer_of(make_app(), kind=GreenConsumer)
    assert unacked_messages.is_enabled
    monkeypatch.setattr(module, "most_connections", lambda: 2)
    consumer = consumer_of(make_app(), kind=GreenConsumer)
    busy, done = threading.Semaphore(0), threading.Event()

    def acknowledge(*_: Any) -> None:
        busy.release()
        assert done.wait(60)

    threads = [threading.Thread(target=consumer.call_soon_ack, args=(acknowledge, "logger")) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert [busy.acquire(timeout=60) for _ in range(2)] == [True] * 2
    assert not busy.acquire(timeout=0.05)
    done.set()
    for thread in threads:
        thread.join(60)
    assert [busy.acquire(timeout=60) for _ in range(3)] == [True] * 3


@pytest.mark.parametrize("options", [{"kind": ReliableConsumer}, {"kind": GreenConsumer, "hub": object()}])
def test_others_do_not(make_app, unacked_messages, options):
    consumer_of(make_app(), **options)
    assert not unacked_messages.is_enabled


class RefusedError(Exception):
    """What a broker says that refuses something."""


def looping(make_app: Any, **settings: Any) -> Any:
    """Return a consumer whose loop is refused something."""

    class Looping(ReliableConsumer):
        def receive(self, *_: Any) -> None:
            raise RefusedError("read only")

    consumer = consumer_of(make_app("redis://localhost", **settings), kind=Looping)
    consumer.channel_errors = (RefusedError,)
    return consumer


def test_a_broker_that_refuses_something_is_taken_for_one_that_is_lost(make_app):
    consumer = looping(make_app)
    with pytest.raises(consumer.connection_errors, match=r"The broker refused something: .*read only") as caught:
        consumer.loop()
    assert isinstance(caught.value.__cause__, RefusedError)
    assert consumer.app.conf.broker_channel_error_retry is True


def test_a_refusal_ends_the_worker_where_the_user_wants_that(make_app):
    consumer = looping(make_app, broker_channel_error_retry=False)
    with pytest.raises(RefusedError):
        consumer.loop()
    assert consumer.app.conf.broker_channel_error_retry is False


@pytest.mark.parametrize(("hub", "name"), [(None, "synloop"), (object(), "asynloop")])
def test_other_pools_receive_by_celerys_loops(make_app, monkeypatch, hub, name):
    called = []
    monkeypatch.setattr(loops, name, lambda *args: called.append(args))
    consumer_of(make_app(), kind=ReliableConsumer, hub=hub).loop(1, 2)
    assert called == [(1, 2)]


def test_celery_calls_the_loop_of_a_consumer_that_has_one(make_app):
    """Fails when Celery no longer leaves it to its consumer."""
    consumer = consumer_of(make_app(), kind=ReliableConsumer)
    assert consumer.loop.__func__ is ReliableConsumer.loop


class Own(Consumer):
    """A consumer of a user's own."""


class OwnLoop(Consumer):
    """One that brings a loop."""

    def loop(self, *_: Any) -> None:
        raise RefusedError


@pytest.mark.parametrize("is_green", [True, False])
def test_a_users_consumer_does_what_ours_does(make_app, is_green):
    ours = GreenConsumer if is_green else ReliableConsumer
    assert derive_consumer(Consumer, is_green) is ours
    assert derive_consumer(ours, is_green) is ours
    derived = derive_consumer(Own, is_green)
    assert issubclass(derived, (ours, Own))
    assert derived.__name__ == "Own"
    assert derive_consumer(Own, is_green) is derived
    names = [type(step).__name__ for step in consumer_of(make_app(), kind=derived).blueprint.order]
    assert names.count("VisibilityStep") == 1
    assert ("RemoteControl" in names, "Control" in names) == (is_green, not is_green)


@pytest.mark.parametrize("is_green", [True, False])
def test_a_users_loop_is_the_one_that_runs(make_app, is_green):
    consumer = consumer_of(make_app(), kind=derive_consumer(OwnLoop, is_green))
    with pytest.raises(RefusedError):
        consumer.loop()


def test_what_is_no_consumer_of_celerys_is_left_as_it_is():
    assert derive_consumer(object, True) is object


def test_a_users_step_that_needs_remote_control_gets_ours(make_app):
    class Needy(StartStopStep):
        requires = ("celery.worker.consumer.control:Control",)

    app = make_app()
    app.steps["consumer"].add(Needy)
    names = [type(step).__name__ for step in consumer_of(app, kind=GreenConsumer).blueprint.order]
    assert names.index("RemoteControl") < names.index("Needy")
    assert "Control" not in names


@pytest.fixture
def running(app, container, unacked_messages, monkeypatch) -> Iterator[Callable[[str], Any]]:
    """Let a task run, and return its request."""

    @component(scope="prototype")
    class Tasks:
        @task("late", acks_late=True)
        async def late(self) -> None: ...

        @task("early")
        async def early(self) -> None: ...

    @app.task(name="plain", shared=False)
    def plain() -> None: ...

    container(Tasks)
    monkeypatch.setattr(request_module, "unacked_messages", unacked_messages)
    state.reset_state()

    def run(name: str) -> Any:
        request = request_of(app, message_of(name), symbol_by_name(app.tasks[name].Request))
        state.task_reserved(request)
        request.on_accepted(77, 0.0)
        return request

    yield run
    state.reset_state()


def cancel(app: Celery, kind: Any = ReliableConsumer) -> None:
    consumer = consumer_of(app, kind=kind)
    consumer.pool.terminate_job = lambda *_: None
    consumer.cancel_active_requests()


@pytest.mark.parametrize("name", ["early", "plain"])
def test_a_cancelled_task_whose_message_is_gone_has_come_to_its_end(app, running, name):
    request = running(name)
    cancel(app)
    assert app.AsyncResult(request.id).state == "REVOKED"


def test_with_celerys_own_consumer_it_waits_for_ever_for_a_retry(app, running):
    """Fails when Celery no longer does what ours mends."""
    request = running("plain")
    cancel(app, Consumer)
    assert app.AsyncResult(request.id).state == "RETRY"


def test_a_cancelled_task_that_the_broker_has_is_left_to_the_next_worker(app, running):
    request = running("late")
    cancel(app)
    assert app.AsyncResult(request.id).state == "PENDING"
    assert request.message.channel.answers == []


def test_a_result_backend_that_is_away_does_not_hold_up_the_end_for_each_task(app, running, monkeypatch, caplog):
    requests = [running("early") for _ in range(3)]
    tried = []

    def mark_as_revoked(task_id: str, *_: Any, **__: Any) -> None:
        tried.append(task_id)
        raise ConnectionError("gone")

    monkeypatch.setattr(app.backend, "mark_as_revoked", mark_as_revoked)
    cancel(app)
    assert len(tried) == 1
    assert tried[0] in {request.id for request in requests}
    assert "The result backend cannot be told" in caplog.text


class Lost:
    """A connection that is lost, and what becomes of it."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def collect(self, socket_timeout: Any = None) -> None:
        self.log.append("collected")

    def close(self) -> None:
        self.log.append("closed")


@pytest.fixture
def lose(make_app, unacked_messages, monkeypatch) -> Callable[..., list[str]]:
    """Lose a consumer's connection, and return what happens, in its order."""

    def lose(*, kind: Any = GreenConsumer, **settings: Any) -> list[str]:
        log: list[str] = []
        monkeypatch.setattr(unacked_messages, "detach", lambda channel: log.append("held"))
        consumer = consumer_of(make_app(worker_enable_prefetch_count_reduction=False, **settings), kind=kind)
        consumer.connection = Lost(log)
        consumer.on_connection_error_after_connected(ConnectionResetError())
        assert not consumer.connection
        return log

    return lose


def test_what_runs_is_held_before_its_connection_is_given_up(lose):
    with pytest.warns(PendingDeprecationWarning, match="late acknowledgement"):
        assert lose() == ["held", "collected", "closed"]


@pytest.mark.parametrize("kind", [ReliableConsumer, GreenConsumer])
def test_what_was_settled_is_remembered_beyond_a_lost_connection(lose, unacked_messages, kind):
    unacked_messages.settled.note(("key",), False)
    with pytest.warns(PendingDeprecationWarning, match="late acknowledgement"):
        lose(kind=kind)
    assert [*unacked_messages.settled._at_losses] == [("key",)]


def test_what_is_to_be_cancelled_is_not_held(lose):
    assert lose(worker_cancel_long_running_tasks_on_connection_loss=True) == ["collected", "closed"]


def test_without_greenlets_a_connection_is_given_up_as_celery_does(lose):
    with pytest.warns(PendingDeprecationWarning, match="late acknowledgement"):
        assert lose(kind=ReliableConsumer) == ["collected", "closed"]


def test_what_came_by_a_lost_connection_can_be_stopped(make_app):
    """Celery's step ignores the errors of the connection that is there by then, and there is none."""
    consumer = consumer_of(make_app(), kind=ReliableConsumer)
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


def rejections(consumer: Any) -> dict[str, Any]:
    """Return what a consumer does with each kind of message that it cannot run, by the reason to keep it."""
    return {
        "unknown-task": lambda message: consumer.on_unknown_task(None, message, KeyError("unknown")),
        "malformed": lambda message: consumer.on_invalid_task(None, message, InvalidTaskError("no id")),
        "undecodable": lambda message: consumer.on_decode_error(message, DecodeError("no JSON")),
        "unknown": lambda message: consumer.on_unknown_message(None, message),
    }


@pytest.mark.parametrize("reason", ["unknown-task", "malformed", "undecodable", "unknown"])
def test_a_message_is_kept_as_a_dead_letter_before_it_is_given_up(make_app, letters, reason):
    consumer = consumer_of(make_app(), kind=ReliableConsumer)
    message = message_of("unknown")
    rejections(consumer)[reason](message)
    assert letters.reasons == ["malformed" if reason == "unknown" else reason]
    assert letters.answers == []
    assert message.channel.answers == ["acknowledged" if reason == "undecodable" else "rejected"]


@pytest.mark.parametrize("reason", ["unknown-task", "malformed", "undecodable", "unknown"])
def test_what_cannot_be_kept_stays_with_the_broker_and_takes_no_place(make_app, letters, reason):
    letters.can_be_kept = False
    consumer = consumer_of(make_app(), kind=ReliableConsumer)
    places = []
    consumer.qos = SimpleNamespace(increment_eventually=lambda: places.append(1))
    message = message_of("unknown")
    rejections(consumer)[reason](message)
    assert message.channel.answers == []
    assert places == [1]
