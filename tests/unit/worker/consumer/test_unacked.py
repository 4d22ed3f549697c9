"""A task keeps its message when the connection is lost by which that came, and is not run beside itself."""

import logging
import time
from collections.abc import Iterator
from typing import Any

import kombu
import pytest
import redis
from celery.worker import state
from kombu.transport import virtual
from kombu.utils.imports import symbol_by_name
from pico_ioc import component

from pico_celery import task
from pico_celery_worker.consumer import request as request_module
from pico_celery_worker.consumer import unacked as module
from pico_celery_worker.consumer.unacked import (
    Settled,
    UnackedMessages,
    channel_is_closed,
    identity,
    is_of_redis,
    settles_at_once,
    strategy,
    was_redelivered,
)
from pico_celery_worker.transports import with_reliable_transport
from tests import services
from tests.unit.worker.requests import Channel, consumer_of, message_of, request_of


@component(scope="prototype")
class Tasks:
    @task("late", acks_late=True)
    async def late(self) -> None: ...


class RedisQoS(virtual.QoS):
    """kombu's account of messages from Redis, as far as it is looked at."""

    def __init__(self, channel: Any) -> None:
        super().__init__(channel)
        self.restored: list[str] = []

    def restore_by_tag(self, tag: str) -> None:
        self.restored.append(tag)


class RedisChannel(Channel):
    """A channel of kombu's to Redis, as far as it is looked at."""

    unacked_key = "unacked"
    do_restore = False

    def __init__(self) -> None:
        super().__init__()
        del self.is_open
        self.closed = False
        self.qos = RedisQoS(self)

    def _answer(self, answer: str) -> None:
        if self.is_broken or self.closed:
            raise ConnectionResetError("the connection is lost")
        self.answers.append(answer)


@pytest.fixture
def unacked_messages(monkeypatch) -> UnackedMessages:
    own = UnackedMessages()
    own.enable()
    monkeypatch.setattr(module, "unacked_messages", own)
    monkeypatch.setattr(request_module, "unacked_messages", own)
    return own


@pytest.fixture
def run(app, container, unacked_messages):
    """Make a request that runs, of a message from Redis or, by another channel, from RabbitMQ."""
    container(Tasks)
    state.reset_state()
    requests = []

    def run(channel: Any = None, **headers: Any) -> Any:
        message = message_of("late", channel=channel, **headers)
        request = request_of(app, message)
        requests.append(request)
        if is_of_redis(message) and isinstance(channel, RedisChannel):
            channel.qos.append(message, message.delivery_tag)
        state.task_accepted(request)
        return request

    yield run
    state.reset_state()


def again(message: Any, channel: Any = None, **headers: Any) -> Any:
    """Return the same message as it is delivered again, by another channel."""
    delivered = message_of("late", channel=channel or Channel(), **{**message.headers, **headers, "task_id": None})
    delivered.headers["id"] = message.headers["id"]
    delivered.delivery_info = {"redelivered": True}
    if is_of_redis(delivered):
        delivered.delivery_tag = message.delivery_tag
    return delivered


def claim_redelivered(unacked_messages: UnackedMessages, message: Any) -> bool:
    return unacked_messages.claim_redelivered(
        message, message.ack_log_error, message.reject_log_error, (ConnectionError,)
    )


def unacked(channel: RedisChannel) -> set[str]:
    channel.qos._flush()
    return {*channel.qos._delivered}


def test_without_greenlets_messages_are_answered_as_celery_does(run):
    own = UnackedMessages()
    request = run()
    request.message.channel.is_open = False
    given: list[Any] = []
    own.settle(request, None, lambda: given.append(1))
    assert given == [1]
    assert own.pending == {}


def test_an_answer_is_given_once(run, unacked_messages):
    request = run()
    request.acknowledge()
    assert request.message.channel.answers == ["acknowledged"]
    assert unacked_messages.pending == {}


@pytest.mark.parametrize("requeue", [None, False, True])
def test_what_redis_could_not_be_told_is_noted(run, unacked_messages, requeue):
    request = run(RedisChannel())
    request.message.channel.is_broken = True
    settle(request, requeue)
    [(key, answer)] = unacked_messages.pending.items()
    assert key == identity(request.message)
    assert (answer.message, answer.requeue) == (request.message, requeue)


@pytest.mark.parametrize("requeue", [None, False, True])
def test_what_rabbitmq_could_not_be_told_waits_for_no_connection(run, unacked_messages, requeue):
    request = run()
    request.message.channel.is_broken = True
    settle(request, requeue)
    assert request.acknowledged
    assert unacked_messages.pending == {}


def settle(request: Any, requeue: bool | None) -> None:
    if requeue is None:
        request.acknowledge()
    else:
        request.reject(requeue)


def test_nothing_is_told_by_a_connection_that_is_given_up(run, unacked_messages):
    request = run(RedisChannel())
    request.message.channel.closed = True
    given: list[Any] = []
    unacked_messages.settle(request, None, lambda: given.append(1))
    assert given == []
    assert len(unacked_messages.pending) == 1


def test_what_was_answered_while_there_was_no_connection_is_not_answered_again(run, unacked_messages):
    request = run(RedisChannel())
    request.message.channel.closed = True
    request.acknowledge()
    following = RedisChannel()
    request.message.channel = following
    unacked_messages.flush()
    request.reject(requeue=True)
    assert following.answers == ["acknowledged"]
    assert unacked_messages.pending == {}


@pytest.mark.parametrize(("requeue", "answer"), [(None, "acknowledged"), (False, "rejected"), (True, "requeued")])
def test_redis_is_told_as_soon_as_there_is_a_connection(run, unacked_messages, requeue, answer):
    request = run(RedisChannel())
    old = request.message.channel
    old.is_broken = True
    settle(request, requeue)
    unacked_messages.detach()
    old.closed = True
    unacked_messages.flush()
    assert len(unacked_messages.pending) == 1
    following = RedisChannel()
    unacked_messages.reattach(following)
    assert following.answers == [answer]
    assert unacked_messages.pending == {}
    assert unacked(following) == set()


def test_what_redis_refuses_to_hear_is_told_later(run, unacked_messages, monkeypatch, caplog):
    request = run(RedisChannel())
    message = request.message
    monkeypatch.setattr(message.channel, "_answer", refuse)
    request.acknowledge()
    assert request.acknowledged
    assert f"Could not settle the message of task late[{request.id}]" in caplog.text
    monkeypatch.undo()
    unacked_messages.flush()
    assert message.channel.answers == ["acknowledged"]


def refuse(_: str) -> None:
    raise redis.ResponseError("READONLY")


def test_what_cannot_be_told_even_then_stays_noted(run, unacked_messages):
    request = run(RedisChannel())
    request.message.channel.is_broken = True
    request.acknowledge()
    with pytest.raises(ConnectionResetError):
        unacked_messages.flush()
    assert len(unacked_messages.pending) == 1
    request.message.channel.is_broken = False
    unacked_messages.flush()
    assert request.message.channel.answers == ["acknowledged"]
    assert unacked_messages.pending == {}


def test_what_runs_is_not_given_back_with_the_channel(run, unacked_messages):
    channel = RedisChannel()
    running, waiting = run(channel), message_of("late", channel=channel)
    channel.qos.append(waiting, waiting.delivery_tag)
    unacked_messages.detach(channel)
    assert unacked(channel) == set()
    following = RedisChannel()
    unacked_messages.reattach(following)
    assert running.message.channel is following
    assert unacked(following) == {running.message.delivery_tag}
    assert following.qos.restored == [waiting.delivery_tag]
    running.acknowledge()
    assert (channel.answers, following.answers) == ([], ["acknowledged"])


def test_what_has_ended_and_could_not_say_so_is_given_back(run, unacked_messages):
    """A plain task's request knows nothing of answers."""
    channel = RedisChannel()
    request = run(channel)
    unacked_messages.detach(channel)
    state.reset_state()  # it has ended
    following = RedisChannel()
    unacked_messages.reattach(following)
    assert following.qos.restored == [request.message.delivery_tag]
    assert unacked(following) == set()
    assert unacked_messages._waiting == []


def test_what_has_been_answered_is_not_held(run, unacked_messages):
    channel = RedisChannel()
    request = run(channel)
    request.acknowledge()
    unacked_messages.detach()
    following = RedisChannel()
    unacked_messages.reattach(following)
    assert request.message.channel is channel
    assert unacked(following) == set()


def test_what_ends_between_two_connections_is_told_by_the_next(run, unacked_messages):
    channel = RedisChannel()
    request = run(channel)
    unacked_messages.detach()
    channel.closed = True
    request.acknowledge()
    following = RedisChannel()
    unacked_messages.reattach(following)
    assert following.answers == ["acknowledged"]
    assert unacked(following) == set()


def test_messages_of_rabbitmq_are_not_held(run, unacked_messages):
    request = run()
    unacked_messages.detach()
    following = RedisChannel()
    unacked_messages.reattach(following)
    assert request.message.channel is not following
    assert unacked_messages._held == []


def test_a_connection_that_is_lost_while_messages_are_resumed_leaves_the_rest_for_the_next(run, unacked_messages):
    channel = RedisChannel()
    first, second = run(channel), run(channel)
    unacked_messages.detach()
    failing = RedisChannel()
    failing.qos.append = fail
    with pytest.raises(ConnectionResetError):
        unacked_messages.reattach(failing)
    following = RedisChannel()
    unacked_messages.reattach(following)
    assert unacked(following) == {first.message.delivery_tag, second.message.delivery_tag}


def fail(*_: Any) -> None:
    raise ConnectionResetError("lost again")


def test_a_running_task_takes_the_new_delivery_for_its_own(run, unacked_messages, caplog):
    caplog.set_level(logging.INFO, module.logger.name)
    request = run()
    old, new = request.message, again(request.message)
    assert claim_redelivered(unacked_messages, new)
    assert request.message is new
    assert new.channel.answers == []
    assert f"Task late[{request.id}] was redelivered while it runs: the running execution goes on" in caplog.text
    request.acknowledge()
    assert (old.channel.answers, new.channel.answers) == ([], ["acknowledged"])


@pytest.mark.parametrize(("requeue", "answer"), [(None, "acknowledged"), (False, "rejected")])
@pytest.mark.parametrize("runs", [False, True])
def test_a_task_that_was_answered_meanwhile_is_not_run_again(run, unacked_messages, requeue, answer, runs):
    request = run()
    if not runs:
        state.task_ready(request)
    request.message.channel.is_open = False
    settle(request, requeue)
    new = again(request.message)
    assert claim_redelivered(unacked_messages, new)
    assert new.channel.answers == [answer]
    assert unacked_messages.pending == {}


@pytest.mark.parametrize("runs", [False, True])
def test_a_task_that_was_put_back_is_run_again(run, unacked_messages, runs):
    request = run()
    if not runs:
        state.task_ready(request)
    request.message.channel.is_open = False
    request.reject(requeue=True)
    new = again(request.message)
    assert not claim_redelivered(unacked_messages, new)
    assert new.channel.answers == []
    assert unacked_messages.pending == {}


@pytest.mark.parametrize("channel", [Channel, RedisChannel])
@pytest.mark.parametrize("requeue", [None, False])
@pytest.mark.parametrize("keeps", [True, False])
def test_an_answer_that_was_lost_on_its_way_is_given_again(run, unacked_messages, channel, requeue, keeps):
    """RabbitMQ never got it, or another worker had Redis give the message out again before it came."""
    unacked_messages.is_enabled = keeps
    request = run(channel())
    state.task_ready(request)
    settle(request, requeue)
    given = request.message.channel.answers
    assert given == ["acknowledged" if requeue is None else "rejected"]
    new = again(request.message, channel())
    assert claim_redelivered(unacked_messages, new)
    assert new.channel.answers == given


def test_what_was_settled_is_remembered_for_a_while(run, unacked_messages, monkeypatch):
    request = run()
    state.task_ready(request)
    request.acknowledge()
    later = time.monotonic() + module._LONGEST_MEMORY + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert not claim_redelivered(unacked_messages, again(request.message))


def test_only_so_much_is_remembered(monkeypatch):
    monkeypatch.setattr(module, "_LEAST_REMEMBERED", 10)
    settled = Settled()
    for number in range(1000):
        settled.note((number,), False)
    remembered = [number for number in range(1000) if settled.was_rejected((number,)) is False]
    assert 10 <= len(remembered) <= 20
    assert remembered[-1] == 999
    settled.note_loss()
    settled.note_loss()
    assert len(settled._at_losses) == len(remembered)


def test_what_was_settled_before_a_loss_is_remembered_whatever_follows(monkeypatch):
    monkeypatch.setattr(module, "_LEAST_REMEMBERED", 10)
    settled = Settled()
    settled.note(("before",), True)
    settled.note_loss()
    for number in range(1000):
        settled.note((number,), False)
        if number % 100 == 0:
            assert settled.was_rejected(("before",))
    later = time.monotonic() + module._LONGEST_MEMORY + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert settled.was_rejected(("before",)) is None
    settled.note_loss()
    assert settled._at_losses == {}


def test_a_running_task_that_was_acknowledged_has_its_new_delivery_acknowledged(run, unacked_messages, caplog):
    caplog.set_level(logging.INFO, module.logger.name)
    request = run()
    request.acknowledge()
    new = again(request.message)
    assert claim_redelivered(unacked_messages, new)
    assert (
        f"Task late[{request.id}] was redelivered after it had ended: settled without running it again" in caplog.text
    )
    assert new.channel.answers == ["acknowledged"]
    assert request.message is not new


def test_a_request_that_cannot_be_renewed_is_run_again(run, unacked_messages):
    request = run()
    request.rebind = None
    assert not claim_redelivered(unacked_messages, again(request.message))


@pytest.mark.parametrize("other", [{"id": "another"}, {"retries": 1}, {"replaced_task_nesting": 1}])
def test_another_execution_is_run(run, unacked_messages, other):
    request = run()
    new = again(request.message)
    new.headers.update(other)
    assert not claim_redelivered(unacked_messages, new)
    assert request.message is not new


def test_the_same_message_has_the_same_identity():
    message = message_of("late")
    assert identity(message) == identity(again(message))
    assert identity(message) != identity(message_of("late"))
    message.headers = None
    assert identity(message) == (None, None, None, None)


def test_redis_keeps_the_delivery_tag_by_which_two_copies_are_told_apart():
    message = message_of("late", channel=RedisChannel())
    assert identity(message) == identity(again(message, RedisChannel()))
    copy = message_of("late", message.headers["id"], channel=RedisChannel())
    assert identity(message) != identity(copy)


@pytest.mark.parametrize(
    ("headers", "info", "expected"),
    [
        ({}, {}, False),
        (None, None, False),
        ({"redelivered": True}, {}, True),
        ({}, {"redelivered": True}, True),
        ({"redelivered": False}, {"redelivered": False}, False),
    ],
)
def test_brokers_say_in_two_places_that_a_message_was_delivered_before(headers, info, expected):
    message = message_of("late")
    message.headers, message.delivery_info = headers, info
    assert was_redelivered(message) is expected


def test_only_greenlets_keep_messages(app):
    assert settles_at_once(consumer_of(app))
    assert not settles_at_once(consumer_of(app, is_green=False))
    assert not settles_at_once(consumer_of(app, hub=object()))


def receive(app: Any, consumer: Any, message: Any) -> None:
    take = strategy(app.tasks["late"], app, consumer)
    take(message, None, message.ack_log_error, message.reject_log_error, [])


def test_it_is_how_async_tasks_are_received(app, run):
    run()
    assert symbol_by_name(app.tasks["late"].Strategy) is strategy


def test_a_message_is_received_as_celery_receives_it(app, run):
    consumer = consumer_of(app)
    run()
    message = message_of("late")
    receive(app, consumer, message)
    assert [request.message for request in consumer.requests] == [message]


def test_a_message_that_is_delivered_again_is_not_received_while_it_runs(app, run):
    consumer = consumer_of(app)
    request = run()
    receive(app, consumer, again(request.message))
    assert consumer.requests == []
    assert request.message.delivery_info == {"redelivered": True}


def test_a_message_that_nobody_knows_is_received_although_it_was_delivered_before(app, run):
    consumer = consumer_of(app)
    receive(app, consumer, again(run().message, retries=1))
    assert len(consumer.requests) == 1


def test_a_copy_of_what_runs_is_received_where_the_broker_has_not_delivered_it_before(app, run):
    consumer = consumer_of(app)
    message = again(run().message)
    message.delivery_info = {}
    receive(app, consumer, message)
    assert len(consumer.requests) == 1


def test_without_greenlets_a_message_is_received_again(app, run, monkeypatch):
    monkeypatch.setattr(module, "unacked_messages", UnackedMessages())
    consumer = consumer_of(app, is_green=False)
    receive(app, consumer, again(run().message))
    assert len(consumer.requests) == 1


class Reader:
    """A connection to a broker, by which one message comes."""

    def __init__(self, url: str, queue: str) -> None:
        self.messages: list[Any] = []
        self.connection = with_reliable_transport(kombu.Connection(url))
        self.channel = self.connection.channel()
        self.queue = kombu.Queue(queue)
        self.consumer = kombu.Consumer(self.channel, [self.queue], on_message=self.messages.append, accept=["json"])
        self.consumer.consume()

    def send(self) -> None:
        message = message_of("late")
        with self.connection.clone() as other, other.Producer() as producer:
            options = {"content_type": message.content_type, "content_encoding": message.content_encoding}
            producer.publish(message.body, routing_key=self.queue.name, headers=message.headers, **options)

    def take(self) -> Any:
        while not self.messages:
            self.connection.drain_events(timeout=60)
        return self.messages.pop()

    def lose(self) -> None:
        """Give the connection up as Celery's consumer does."""
        self.connection.collect(socket_timeout=1)
        self.connection.close()


@pytest.fixture
def client(redis_url) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def accept(app: Any, message: Any) -> Any:
    request = request_of(app, message)
    state.task_accepted(request)
    return request


def test_redis_goes_on_keeping_what_runs(app, run, unacked_messages, redis_url, client):
    run()
    state.reset_state()
    reader = Reader(redis_url, "errands")
    reader.send()
    request = accept(app, reader.take())
    assert is_of_redis(request.message)
    assert not channel_is_closed(request.message)
    unacked_messages.detach()
    reader.lose()
    assert channel_is_closed(request.message)
    assert (client.hkeys("unacked"), client.llen("errands")) == ([request.message.delivery_tag], 0)
    following = Reader(redis_url, "errands")
    unacked_messages.reattach(following.channel)
    assert not channel_is_closed(request.message)
    request.acknowledge()
    assert request.message.acknowledged
    assert (client.hkeys("unacked"), client.llen("errands")) == ([], 0)
    following.connection.release()


def test_redis_hears_later_of_what_has_ended_meanwhile(app, run, unacked_messages, redis_url, client):
    run()
    state.reset_state()
    reader = Reader(redis_url, "errands")
    reader.send()
    request = accept(app, reader.take())
    unacked_messages.detach()
    reader.lose()
    request.acknowledge()
    assert client.hlen("unacked") == 1
    following = Reader(redis_url, "errands")
    unacked_messages.reattach(following.channel)
    assert (client.hlen("unacked"), client.llen("errands")) == (0, 0)
    following.connection.release()


def test_redis_gets_back_what_has_not_begun_when_it_is_there_again(app, run, unacked_messages, redis_url, client):
    run()
    state.reset_state()
    reader = Reader(redis_url, "errands")
    reader.send()
    waiting = reader.take()
    unacked_messages.detach(reader.channel)
    reader.lose()
    assert (client.hkeys("unacked"), client.llen("errands")) == ([waiting.delivery_tag], 0)
    following = Reader(redis_url, "errands")
    unacked_messages.reattach(following.channel)
    assert (client.hlen("unacked"), client.llen("errands")) == (0, 1)
    following.connection.release()


def test_kombu_gives_back_what_is_not_held(app, run, redis_url, client):
    """Fails when kombu no longer does what `hold` is for."""
    run()
    reader = Reader(redis_url, "errands")
    reader.send()
    accept(app, reader.take())
    reader.channel.close()
    assert (client.hlen("unacked"), client.llen("errands")) == (0, 1)
    reader.connection.release()


@pytest.mark.services
def test_rabbitmq_delivers_again_what_runs(app, run, unacked_messages):
    run()
    state.reset_state()
    with services.rabbitmq_queue() as queue:
        reader = Reader(services.rabbitmq_url(), queue)
        reader.send()
        request = accept(app, reader.take())
        assert not is_of_redis(request.message)
        assert not channel_is_closed(request.message)
        unacked_messages.detach()
        reader.lose()
        assert channel_is_closed(request.message)
        following = Reader(services.rabbitmq_url(), queue)
        message = following.take()
        assert was_redelivered(message)
        assert claim_redelivered(unacked_messages, message)
        request.acknowledge()
        assert message.acknowledged
        assert following.queue(following.channel).queue_declare(passive=True).message_count == 0
        following.connection.release()
