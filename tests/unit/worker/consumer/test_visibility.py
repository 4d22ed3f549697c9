"""Messages that were delivered and not acknowledged are looked for, now and then, by workers with greenlets."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import kombu
import pytest
import redis
from celery import bootsteps
from celery.concurrency.prefork import TaskPool
from kombu.asynchronous.timer import Timer
from kombu.transport.redis import Channel

from pico_celery_worker.consumer import visibility as redelivery
from pico_celery_worker.consumer.unacked import PendingSettlement, UnackedMessages
from pico_celery_worker.consumer.visibility import VisibilityStep
from pico_celery_worker.loop.thread import ThreadRunner
from pico_celery_worker.loop.watchdog import UnpatchedThreading
from pico_celery_worker.transports import with_reliable_transport
from tests.servers import free_port
from tests.unit.worker.requests import message_of
from tests.waiting import eventually

QUEUE = "errands"


class Threads:
    """Starts no thread: the test does what one would do."""

    def __init__(self) -> None:
        self.started: list[Any] = []

    def native(self) -> UnpatchedThreading:
        return ThreadRunner.native()._replace(start_thread=lambda function, _: self.started.append(function))


class Parent:
    """A consumer of Celery's, as far as the step sees it, and one of kombu's."""

    def __init__(self, url: str, *, is_green: bool = True, hub: Any = None, pool: Any = None, **options: Any) -> None:
        self.connection = with_reliable_transport(kombu.Connection(url, transport_options=options))
        self.pool = pool or SimpleNamespace(is_green=is_green)
        self.hub = hub
        self.timer = Timer()
        self.blueprint = SimpleNamespace(state=bootsteps.RUN)
        self.messages: list[Any] = []
        self.task_consumer = kombu.Consumer(
            self.connection.channel(), [kombu.Queue(QUEUE)], on_message=self.messages.append
        )
        self.task_consumer.consume()

    def take(self) -> Any:
        while not self.messages:
            self.connection.drain_events(timeout=60)
        return self.messages.pop()

    def send(self) -> None:
        with self.connection.clone() as other, other.Producer() as producer:
            producer.publish("x", routing_key=QUEUE)

    def entries(self) -> list[Any]:
        entries = {id(scheduled.entry): scheduled.entry for scheduled in self.timer.queue}
        return [entry for entry in entries.values() if not entry.canceled]

    def look(self) -> None:
        """Do what is due the next time."""
        [entry] = self.entries()
        entry._last_run = None
        entry()


MakeParent = Callable[..., Parent]


@pytest.fixture
def make_parent(redis_url) -> Iterator[MakeParent]:
    parents = []

    def make(url: str = redis_url, **options: Any) -> Parent:
        parents.append(Parent(url, **options))
        return parents[-1]

    yield make
    for parent in parents:
        parent.connection.release()


@pytest.fixture
def client(redis_url) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture(autouse=True)
def unacked_messages(monkeypatch) -> UnackedMessages:
    own = UnackedMessages()
    monkeypatch.setattr(redelivery, "unacked_messages", own)
    return own


@pytest.fixture(autouse=True)
def threads(monkeypatch) -> Threads:
    own = Threads()
    monkeypatch.setattr(redelivery, "runner_class", lambda: own)
    return own


def started(parent: Parent) -> VisibilityStep:
    step = VisibilityStep(parent)
    step.start(parent)
    return step


def spans(parent: Parent, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(parent.timer, "call_repeatedly", lambda seconds, _: found.append(seconds))
    started(parent)
    return found


def test_it_is_looked_as_often_as_kombu_looks(make_parent, monkeypatch):
    assert spans(make_parent(), monkeypatch) == [float(Channel.unacked_restore_interval)]


def test_it_is_looked_as_often_as_the_user_says(make_parent, monkeypatch):
    assert spans(make_parent(unacked_restore_interval="3"), monkeypatch) == [3.0]


def test_it_is_looked_well_before_the_visibility_timeout(make_parent, monkeypatch):
    assert spans(make_parent(visibility_timeout=12), monkeypatch) == [4.0]
    assert spans(make_parent(visibility_timeout=1), monkeypatch) == [1.0]


def test_what_is_in_hand_is_not_given_out_however_long_it_takes(make_parent, client):
    parent, other = make_parent(), make_parent(visibility_timeout=60)
    parent.send()
    message = parent.take()
    client.zadd("unacked_index", {message.delivery_tag: 1})
    step = started(parent)
    step._renewal.renew()
    started(other)
    other.look()
    assert (client.hkeys("unacked"), client.llen(QUEUE)) == ([message.delivery_tag], 0)
    message.ack()
    step._renewal.renew()
    assert (client.hlen("unacked"), client.zcard("unacked_index")) == (0, 0)


def test_what_another_worker_never_acknowledged_is_given_out_again(make_parent, client):
    lost, parent = make_parent(), make_parent(visibility_timeout=0)
    lost.send()
    tag = lost.take().delivery_tag
    started(parent)
    client.zadd("unacked_index", {tag: 1})
    parent.look()
    message = parent.take()
    assert message.headers["redelivered"]


def test_what_another_worker_may_still_acknowledge_is_left_to_it(make_parent, client):
    other, parent = make_parent(), make_parent()
    other.send()
    tag = other.take().delivery_tag
    started(parent)
    parent.look()
    assert (client.hkeys("unacked"), client.llen(QUEUE)) == ([tag], 0)


def test_it_is_looked_again_and_again(make_parent):
    parent = make_parent()
    started(parent)
    parent.look()
    parent.look()
    assert len(parent.entries()) == 1


def test_what_was_held_goes_on_with_the_new_connection(make_parent, unacked_messages, monkeypatch):
    resumed: list[Any] = []
    monkeypatch.setattr(unacked_messages, "reattach", resumed.append)
    parent = make_parent()
    started(parent)
    assert resumed == [parent.task_consumer.channel]


def test_what_could_not_be_told_is_caught_up_on(make_parent, unacked_messages, client):
    parent = make_parent()
    parent.send()
    message = parent.take()
    started(parent)
    unacked_messages.pending["key",] = PendingSettlement(message)
    assert client.hlen("unacked") == 1
    parent.look()
    assert client.hlen("unacked") == 0
    assert unacked_messages.pending == {}


def test_what_still_cannot_be_told_waits_for_the_next_time(make_parent, unacked_messages, caplog):
    caplog.set_level(logging.DEBUG, redelivery.logger.name)
    parent = make_parent()
    parent.send()
    message = parent.take()
    started(parent)

    def fail(*_: Any, **__: Any) -> None:
        raise redis.ConnectionError("lost")

    message.channel.basic_ack = fail
    unacked_messages.pending["key",] = PendingSettlement(message)
    parent.look()
    assert len(unacked_messages.pending) == 1
    assert "Messages are still to be looked after: " in caplog.text
    del message.channel.basic_ack
    parent.look()
    assert unacked_messages.pending == {}


def test_an_error_of_ours_is_not_hidden(make_parent, unacked_messages, monkeypatch):
    parent = make_parent()
    started(parent)
    message = message_of("x", channel=parent.task_consumer.channel)
    message.ack()
    unacked_messages.pending["key",] = PendingSettlement(message)
    with pytest.raises(message.MessageStateError):
        parent.look()


@pytest.mark.parametrize("end", ["stop", "terminate"])
def test_a_worker_that_stops_goes_on_until_its_tasks_have_ended(make_parent, end):
    parent = make_parent()
    step = started(parent)
    parent.blueprint.state = bootsteps.CLOSE
    getattr(step, end)(parent)
    assert len(parent.entries()) == 1
    assert step._renewal._stop.locked()
    renewal = step._renewal
    step.shutdown(parent)
    assert parent.entries() == []
    assert not renewal._stop.locked()


@pytest.mark.parametrize("end", ["stop", "terminate", "shutdown"])
def test_nothing_is_looked_for_when_the_connection_is_lost_or_the_worker_has_stopped(make_parent, end):
    parent = make_parent()
    step = started(parent)
    getattr(step, end)(parent)
    assert parent.entries() == []
    getattr(step, end)(parent)
    step.start(parent)
    assert len(parent.entries()) == 1


def prefork() -> Any:
    return TaskPool.__new__(TaskPool)


@pytest.mark.parametrize("options", [{"is_green": False}, {"hub": object()}, {"pool": prefork()}])
def test_other_workers_only_say_that_they_live(make_parent, unacked_messages, client, monkeypatch, options):
    monkeypatch.setattr(unacked_messages, "reattach", pytest.fail)
    monkeypatch.setattr(unacked_messages, "flush", pytest.fail)
    parent = make_parent(**options)
    parent.send()
    tag = parent.take().delivery_tag
    client.zadd("unacked_index", {tag: 1})
    step = started(parent)
    if step._renewal is not None:
        step._renewal.renew()
    parent.look()
    assert client.zscore("unacked_index", tag) > 1
    step.stop(parent)
    assert parent.entries() == []


def test_a_worker_that_forks_has_no_thread(make_parent, threads):
    started(make_parent(pool=prefork()))
    assert threads.started == []


def test_a_thread_renews_until_the_worker_has_stopped(make_parent, monkeypatch, client):
    ended = threading.Event()
    native = ThreadRunner.native()._replace(close_hub=ended.set)
    monkeypatch.setattr(redelivery, "runner_class", lambda: SimpleNamespace(native=lambda: native))
    parent = make_parent(unacked_restore_interval=0.05)
    parent.send()
    tag = parent.take().delivery_tag
    step = started(parent)
    for _ in range(2):
        client.zadd("unacked_index", {tag: 1})
        eventually(lambda: client.zscore("unacked_index", tag) > 1)
    connections = len(client.client_list())
    step.shutdown(parent)
    assert ended.wait(60)
    assert len(client.client_list()) < connections


def test_a_process_ends_after_its_thread(make_parent, monkeypatch):
    order = []
    leave: list[Any] = []
    monkeypatch.setattr(redelivery.atexit, "register", leave.append)
    monkeypatch.setattr(redelivery.atexit, "unregister", leave.remove)

    def close_hub() -> None:
        time.sleep(0.2)
        order.append("thread")

    native = ThreadRunner.native()._replace(close_hub=close_hub)
    monkeypatch.setattr(redelivery, "runner_class", lambda: SimpleNamespace(native=lambda: native))
    step = started(make_parent(unacked_restore_interval=0.05))
    eventually(lambda: step._renewal._client is not None)
    [wait] = leave
    wait()
    order.append("process")
    assert order == ["thread", "process"]
    assert leave == []


def test_what_cannot_be_renewed_is_renewed_the_next_time(make_parent, client, monkeypatch, caplog):
    parent = make_parent()
    parent.send()
    tag = parent.take().delivery_tag
    step = started(parent)
    before = time.time() - 10
    client.zadd("unacked_index", {tag: before})
    nowhere = kombu.Connection(f"redis://127.0.0.1:{free_port()}")
    with monkeypatch.context() as patched:
        patched.setattr(parent.connection, "clone", lambda **_: nowhere)
        step._renewal.renew()
    assert client.zscore("unacked_index", tag) == before
    parent.look()
    assert "Redis may deliver again what this worker still has in hand" in caplog.text
    caplog.clear()
    step._renewal.renew()
    assert client.zscore("unacked_index", tag) > before
    parent.look()
    assert caplog.text == ""


def test_a_connection_that_breaks_is_replaced(make_parent, client):
    parent = make_parent()
    parent.send()
    tag = parent.take().delivery_tag
    step = started(parent)
    step._renewal.renew()
    first = step._renewal._client
    first.connection_pool.disconnect()
    first.connection_pool.get_connection = None
    step._renewal.renew()
    assert step._renewal.error is not None
    client.zadd("unacked_index", {tag: 1})
    step._renewal.renew()
    assert client.zscore("unacked_index", tag) > 1
    assert step._renewal._client is not first


def test_renewal_waits_for_redis_no_longer_than_until_the_next_time(make_parent):
    parent = make_parent(unacked_restore_interval=3, socket_timeout=60)
    step = started(parent)
    step._renewal.renew()
    assert step._renewal._client.connection_pool.connection_kwargs["socket_timeout"] == 3
    assert parent.connection.transport_options["socket_timeout"] == 60


def test_other_brokers_are_left_alone(make_parent, unacked_messages, monkeypatch):
    monkeypatch.setattr(unacked_messages, "reattach", pytest.fail)
    parent = make_parent("memory://")
    started(parent).stop(parent)
    assert parent.entries() == []
