"""Messages leave their queue in Redis and are noted as delivered in one step, whoever dies meanwhile."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import kombu
import pytest
import redis
from celery.worker import state
from kombu.transport import redis as kombu_redis
from kombu.utils.scheduling import round_robin_cycle

from pico_celery_worker.consumer.unacked import UnackedMessages
from pico_celery_worker.group_commit import BatchCounts, counts
from pico_celery_worker.transports import redis as ours
from pico_celery_worker.transports import with_reliable_transport
from pico_celery_worker.transports.redis import ReservingChannel
from tests.integration.faults import network
from tests.servers import OwnRedis, own_redis
from tests.waiting import eventually

pytestmark = pytest.mark.services

QUEUE = "errands"


class Reader:
    """A consumer in this process, and a look at what is in Redis."""

    def __init__(self, url: str, **options: Any) -> None:
        self.redis = redis.Redis.from_url(url, decode_responses=True)
        self.connection = with_reliable_transport(kombu.Connection(url, transport_options=options))
        self.channel = self.connection.channel()
        self.asked = 0
        self._ask = self.channel._brpop_start
        self.channel._brpop_start = self._count
        self.bodies: list[Any] = []
        self.messages: list[Any] = []
        self.consumer: Any = None

    def _count(self, *args: Any) -> None:
        self.asked += 1
        self._ask(*args)

    def consume(self, *queues: str, no_ack: bool = False) -> None:
        channel = self.channel
        names = queues or (QUEUE,)
        self.consumer = kombu.Consumer(channel, [kombu.Queue(name) for name in names], no_ack=no_ack)
        self.consumer.register_callback(self._take)
        self.consumer.consume()

    def _take(self, body: Any, message: Any) -> None:
        self.bodies.append(body)
        self.messages.append(message)

    def send(self, body: Any, queue: str = QUEUE, **options: Any) -> None:
        with self.connection.clone() as other, other.Producer() as producer:
            producer.publish(body, routing_key=queue, exchange="", **options)

    def take(self, count: int = 1) -> list[Any]:
        """Wait until so many messages have come since the last time."""
        deadline = time.monotonic() + 60
        while len(self.bodies) < count:
            assert time.monotonic() < deadline, self.bodies
            self.drain(1)
        taken, self.bodies = self.bodies, []
        return taken

    def drain(self, timeout: float) -> None:
        try:
            self.connection.drain_events(timeout=timeout)
        except TimeoutError:
            """Nothing has come."""

    def drain_until_it_waits(self) -> None:
        """Ask until Redis has said that there is nothing."""
        eventually(lambda: self.drain(0.05) or (self.asked and self.channel._request is None))

    def kept(self) -> dict[str, Any]:
        """What Redis has as delivered and not acknowledged, by delivery tag."""
        tags = self.redis.zrange("unacked_index", 0, -1)
        kept = self.redis.hgetall("unacked")
        assert set(tags) == set(kept)
        return {tag: json.loads(value) for tag, value in kept.items()}

    def close(self) -> None:
        self.connection.release()
        self.redis.close()


MakeReader = Callable[..., Reader]


@pytest.fixture(scope="module")
def server() -> Iterator[OwnRedis]:
    """A Redis of their own: it announces changes by their keys alone, whichever database they are in."""
    with own_redis() as server:
        yield server


@pytest.fixture
def url(server: OwnRedis) -> str:
    with server.client() as client:
        client.flushall()
    return server.url


@pytest.fixture
def make_reader(url: str) -> Iterator[MakeReader]:
    readers = []

    def make(**options: Any) -> Reader:
        reader = Reader(url, **options)
        readers.append(reader)
        return reader

    yield make
    for reader in readers:
        reader.close()
    ours._inflight_requests.clear()


@pytest.fixture(params=[2, 3], ids="RESP{}".format)
def reader(url: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    """A reader for each of the two protocols that redis-py speaks."""
    parameters = ReservingChannel._connparams
    monkeypatch.setattr(
        ReservingChannel,
        "_connparams",
        lambda *args, **kwargs: {**parameters(*args, **kwargs), "protocol": request.param},
    )
    reader = Reader(url)
    yield reader
    assert reader.channel.client.connection.protocol == request.param
    reader.close()


def ask_and_do_not_listen(reader: Reader) -> None:
    """Have Redis reserve a message, and do not read that."""
    reader.consume()
    reader.drain_until_it_waits()
    reader.send("x")
    reader.channel._waits_until = 0.0
    reader.channel._brpop_start()
    while not reader.kept():
        time.sleep(0.001)  # until Redis has executed what was sent


@contextmanager
def user(url: str, *rules: str) -> Iterator[str]:
    """Lend a user of Redis with few rights: the URL with it."""
    with redis.Redis.from_url(url) as client:
        client.execute_command("ACL", "SETUSER", "limited", "reset", "on", ">secret", "~*", "&*", "+@all", *rules)
        yield url.replace("://", "://limited:secret@")
        client.execute_command("ACL", "DELUSER", "limited")


def test_a_message_is_kept_as_kombu_keeps_it(reader, url):
    reader.send({"n": 1}, priority=6)
    reader.consume()
    assert reader.take() == [{"n": 1}]
    ours = reader.kept()
    reader.messages[0].requeue()

    with kombu.Connection(url) as bare, bare.channel() as channel:
        theirs = Reader.__new__(Reader)
        vars(theirs).update(vars(reader), channel=channel, bodies=[], messages=[])
        theirs.consume()
        theirs.connection = bare
        assert theirs.take() == [{"n": 1}]
        kept = theirs.kept()
        theirs.messages[0].ack()
    for message, *_ in kept.values():
        # It was requeued meanwhile.
        assert message["headers"].pop("redelivered")
        assert message["properties"]["delivery_info"].pop("redelivered")
    assert kept == ours


def test_an_acknowledged_message_is_gone(reader):
    reader.send("x")
    reader.consume()
    reader.take()
    reader.messages[0].ack()
    assert reader.kept() == {}
    assert reader.redis.llen(QUEUE) == 0


@pytest.fixture
def waits_for_long(monkeypatch) -> None:
    """Have a reader ask again only when it is woken."""
    monkeypatch.setattr(ours, "_LONGEST_WAIT", 600.0)


@pytest.mark.usefixtures("waits_for_long")
def test_a_reader_that_waits_is_woken(reader):
    reader.consume()
    reader.drain_until_it_waits()
    reader.asked = 0
    for number in range(3):
        reader.send(number)
        assert reader.take() == [number]
        reader.drain(0.05)
    # Twice for a message: the one finds it, and the other nothing more.
    assert reader.asked <= 9


def test_a_reader_that_waits_seldom_asks(make_reader):
    reader = make_reader()
    reader.consume()
    reader.drain_until_it_waits()
    reader.asked, began = 0, time.monotonic()
    reader.drain(1.5)
    assert reader.asked <= 1 + (time.monotonic() - began) / ours._LONGEST_WAIT


@pytest.mark.usefixtures("waits_for_long")
def test_what_changes_while_the_answer_is_on_its_way_is_not_missed(make_reader):
    reader = make_reader()
    reader.consume()
    reader.drain_until_it_waits()
    channel = reader.channel
    channel._waits_until = 0.0
    channel._brpop_start()  # finds nothing, and nobody reads that yet
    reader.send("x")
    channel.handlers["ANNOUNCEMENT"]()
    assert reader.take() == ["x"]


def test_queues_and_priorities_take_their_turns(make_reader):
    reader = make_reader()
    for number in range(3):
        reader.send(f"a{number}", "a")
        reader.send(f"b{number}", "b")
    reader.send("urgent", "b", priority=0)
    reader.send("late", "b", priority=9)
    reader.consume("a", "b")
    taken = reader.take(8)
    assert sorted(taken[:2]) == ["a0", "b0"]
    assert taken[-1] == "late"
    assert taken.index("a2") < taken.index("late")


def test_only_so_many_are_taken_as_may_be(make_reader):
    reader = make_reader()
    for number in range(5):
        reader.send(number)
    reader.consume()
    reader.consumer.qos(prefetch_count=2)
    reader.take(2)
    reader.drain(0.1)
    assert (len(reader.kept()), reader.redis.llen(QUEUE)) == (2, 3)
    reader.messages[0].ack()
    assert reader.take() == [2]


def test_as_many_as_there_are_are_taken_in_one_step_and_given_out_one_by_one(make_reader):
    reader = make_reader()
    for number in range(5):
        reader.send(number)
    reader.consume()
    reader.drain(5)
    assert (reader.bodies, len(reader.kept()), reader.redis.llen(QUEUE)) == ([0], 5, 0)
    assert reader.take(5) == [*range(5)]
    assert reader.asked == 1
    for message in reader.messages:
        message.ack()
    assert reader.kept() == {}


def test_what_is_taken_and_not_given_out_is_renewed(make_reader):
    reader = make_reader()
    for number in range(3):
        reader.send(number)
    reader.consume()
    reader.drain(5)
    reader.redis.zadd("unacked_index", dict.fromkeys(reader.kept(), 1))
    reader.channel.renew_leases()
    assert all(score > 1 for _, score in reader.redis.zrange("unacked_index", 0, -1, withscores=True))


def test_what_is_taken_and_not_given_out_goes_back_with_its_channel(make_reader):
    reader = make_reader()
    for number in range(3):
        reader.send(number)
    reader.consume()
    reader.drain(5)
    reader.messages[0].ack()
    reader.channel.close()
    assert (reader.kept(), reader.redis.llen(QUEUE)) == ({}, 2)


def test_what_is_taken_and_not_given_out_goes_back_when_its_queue_is_no_longer_consumed(make_reader):
    reader, other = make_reader(), make_reader()
    for number in range(4):
        reader.send(number)
    reader.send("kept", "b")
    reader.consume(QUEUE, "b")
    reader.drain(5)
    [given_out] = reader.bodies
    reader.consumer.cancel_by_queue(QUEUE)
    other.consume()
    left = [number for number in range(4) if number != given_out]
    assert other.take(3 if given_out == "kept" else len(left))[: len(left)] == left
    if given_out != "kept":
        assert reader.take(2) == [given_out, "kept"]


def test_what_is_taken_goes_back_after_its_connection_is_lost(make_reader):
    unacked_messages = UnackedMessages()
    reader = make_reader()
    for number in range(3):
        reader.send(number)
    reader.consume()
    reader.drain(5)
    unacked_messages.detach(reader.channel)
    following = make_reader()
    unacked_messages.reattach(following.channel)
    following.consume()
    assert sorted(following.take(3)) == [0, 1, 2]


def test_no_more_is_taken_after_so_many_bytes(make_reader, monkeypatch):
    monkeypatch.setattr(ours, "MOST_BYTES", 1)
    reader = make_reader()
    for number in range(3):
        reader.send(number)
    reader.consume()
    reader.drain(5)
    assert (len(reader.kept()), reader.redis.llen(QUEUE)) == (1, 2)
    assert reader.take(3) == [0, 1, 2]


def test_queues_take_turns_in_a_step_as_they_do_from_one_to_the_next(make_reader):
    """The order of kombu: what had a message comes after the others."""
    orders = []
    for largest in (100, 1):
        reader = make_reader()
        for queue, count in (("a", 5), ("b", 1), ("c", 3)):
            for number in range(count):
                reader.send(f"{queue}{number}", queue)
        reader.consume("a", "b", "c")
        reader.consumer.qos(prefetch_count=largest)
        taken: list[Any] = []
        while len(taken) < 9:
            taken += reader.take()
            reader.messages[-1].ack()
        orders.append(taken)
        reader.close()
    assert orders == [["a0", "b0", "c0", "a1", "c1", "a2", "c2", "a3", "a4"]] * 2


@pytest.mark.parametrize("strategy", ["sorted", "priority"])
def test_where_queues_have_a_fixed_order_they_take_no_turns(make_reader, strategy):
    reader = make_reader(queue_order_strategy=strategy)
    for number in range(3):
        reader.send(f"b{number}", "b")
        reader.send(f"a{number}", "a")
    reader.consume("a", "b")
    assert reader.take(6) == ["a0", "a1", "a2", "b0", "b1", "b2"]
    assert reader.asked == 1


class Backwards(round_robin_cycle):  # type: ignore[misc]
    """A strategy of the user's own."""

    def consume(self, n: int) -> list[str]:
        return [*reversed(self.items[:n])]


def test_under_a_strategy_of_the_users_own_it_is_asked_before_each_message(make_reader):
    reader = make_reader(queue_order_strategy=f"{__name__}:Backwards")
    for number in range(2):
        reader.send(f"a{number}", "a")
        reader.send(f"b{number}", "b")
    reader.consume("a", "b")
    assert reader.take(4) == ["b0", "b1", "a0", "a1"]
    assert reader.asked == 4


def test_where_a_free_slot_is_looked_for_each_time_one_is_taken_at_a_time(make_reader):
    """As with Celery's `worker_disable_prefetch`, which puts a `can_consume` of its own into the channel's."""
    reader = make_reader()
    for number in range(3):
        reader.send(number)
    reader.consume()
    reader.channel.qos.can_consume = lambda: not reader.bodies
    reader.drain(5)
    assert (reader.bodies, len(reader.kept())) == ([0], 1)


def test_what_is_no_message_harms_none_that_was_taken_with_it(make_reader, caplog):
    reader = make_reader()
    reader.send(0)
    reader.redis.lpush(QUEUE, "{}", '{"properties": {"delivery_info": {"exchange": "", "routing_key": ""}}}')
    reader.send(1)
    reader.consume()
    assert reader.take(2) == [0, 1]
    assert len(reader.kept()) == 2
    assert caplog.text.count("Dropped a malformed message") == 2


def test_several_are_settled_in_one_step(make_reader):
    reader = make_reader(global_keyprefix="shop:")
    for number in range(3):
        reader.send(number)
    reader.consume()
    reader.take(3)
    tags = [message.delivery_tag for message in reader.messages]
    assert reader.channel.qos._remove(tags[:2]) == [None, None]
    assert reader.redis.hkeys("shop:unacked") == tags[2:]
    assert reader.redis.zrange("shop:unacked_index", 0, -1) == tags[2:]


def test_rejected_messages_are_gone_or_back(make_reader):
    reader = make_reader()
    for number in range(2):
        reader.send(number)
    reader.consume()
    reader.take(2)
    reader.consumer.cancel()
    reader.messages[0].reject()
    reader.messages[1].reject(requeue=True)
    assert (reader.kept(), reader.redis.llen(QUEUE)) == ({}, 1)


def test_what_is_taken_is_counted(make_reader):
    counts.clear()
    reader = make_reader()
    for number in range(3):
        reader.send(number)
    reader.consume()
    reader.take(3)
    assert counts["take"] == BatchCounts(batches=1, items=3, largest=3)


def test_a_prefix_holds_for_all_keys(make_reader):
    reader = make_reader(global_keyprefix="shop:")
    reader.send("x")
    reader.consume()
    reader.take()
    assert (reader.redis.hlen("shop:unacked"), reader.redis.zcard("shop:unacked_index")) == (1, 1)
    reader.messages[0].ack()
    assert not [key for key in reader.redis.keys() if "unacked" in key]


def test_what_nobody_acknowledges_is_not_kept(make_reader):
    reader = make_reader()
    reader.send("x")
    reader.consume(no_ack=True)
    assert reader.take() == ["x"]
    assert reader.kept() == {}


def test_after_that_messages_are_kept_again(make_reader):
    """A worker begins by asking others, whose replies nobody acknowledges."""
    reader = make_reader()
    reader.send("x", "replies")
    reader.consume("replies", no_ack=True)
    assert reader.take() == ["x"]
    reader.consumer.cancel()
    ask_and_do_not_listen(reader)


def test_while_no_more_may_be_taken_announcements_keep_nobody_busy(make_reader):
    reader = make_reader()
    reader.consume("a", "b")
    reader.consumer.qos(prefetch_count=1)
    reader.drain_until_it_waits()
    reader.send("x", "a")
    reader.take()
    reader.send("y", "b")
    deadline, looks = time.monotonic() + 0.3, 0
    while time.monotonic() < deadline:
        reader.drain(0.3)
        looks += 1
    assert looks < 10
    reader.messages[0].ack()
    assert reader.take() == ["y"]


def test_one_that_may_take_no_more_notices_soon_that_it_may(make_reader):
    reader = make_reader()
    for number in range(2):
        reader.send(number)
    reader.consume()
    reader.consumer.qos(prefetch_count=1)
    assert reader.take() == [0]
    acknowledge = threading.Timer(0.1, reader.messages[0].ack)
    acknowledge.start()
    began = time.monotonic()
    while not reader.bodies:
        reader.drain(60)
    assert time.monotonic() - began < 30
    acknowledge.join()


def test_redis_does_not_close_the_connection_of_announcements_for_being_silent(reader):
    """Of the silent ones it spares subscribers alone, if it has a `timeout`."""
    reader.consume()
    reader.drain_until_it_waits()
    flags = {int(client["id"]): client["flags"] for client in reader.redis.client_list()}
    assert "P" in flags[reader.channel._announcements.number]


def test_a_reader_that_never_hears_of_a_message_leaves_it_to_the_next(make_reader):
    lost = make_reader()
    ask_and_do_not_listen(lost)
    following = make_reader()
    following.consume()
    assert following.take() == ["x"]
    assert len(following.kept()) == 1
    assert following.messages[0].headers["redelivered"]


@pytest.mark.parametrize("is_given_to_another", [True, False])
def test_an_answer_that_is_read_late_counts_if_nobody_else_was_given_the_message(make_reader, is_given_to_another):
    """A task has held up the loop meanwhile."""
    reader, other = make_reader(visibility_timeout=2), make_reader()
    ask_and_do_not_listen(reader)
    [tag] = reader.kept()
    reader.channel._requested_at -= 2
    reader.redis.zadd("unacked_index", {tag: reader.channel._requested_at})
    if is_given_to_another:
        other.channel.qos.restore_by_tag(tag)
        other.consume()
        assert other.take() == ["x"]
        reader.drain_until_it_waits()
        assert reader.messages == []
    else:
        assert reader.take() == ["x"]
        assert reader.redis.zscore("unacked_index", tag) > reader.channel._requested_at + 2
    assert [*reader.kept()] == [tag]


def test_a_reader_whose_connection_ends_gets_what_it_never_heard_of(make_reader):
    reader = make_reader()
    ask_and_do_not_listen(reader)
    reader.channel.client.connection.disconnect()  # as kombu does with one that has been silent for too long
    assert reader.take() == ["x"]
    assert len(reader.kept()) == 1


def test_what_arrives_at_a_channel_that_closes_goes_back(make_reader):
    reader = make_reader()
    ask_and_do_not_listen(reader)
    reader.consumer.cancel()
    reader.channel.close()
    assert (reader.kept(), reader.redis.llen(QUEUE)) == ({}, 1)


@pytest.mark.usefixtures("waits_for_long")
def test_a_channel_that_waits_is_closed_at_once(make_reader):
    reader = make_reader()
    reader.consume()
    reader.drain_until_it_waits()
    began = time.monotonic()
    reader.channel.close()
    assert time.monotonic() - began < 60


def test_what_could_not_be_closed_is_closed_again_without_harm(make_reader):
    """As Celery does with a connection that is lost, where its first attempt was cut short."""
    reader = make_reader()
    reader.send("x")
    reader.consume()
    reader.take()
    transport, pool = reader.connection.transport, reader.channel.pool
    reader.connection._do_close_transport()
    assert transport.client is None
    reader.channel._pool = None
    pool.disconnect()
    with pytest.raises(reader.connection.connection_errors):
        reader.channel.close()
    assert len(reader.kept()) == 1


def test_a_lost_connection_is_noticed(make_reader):
    reader = make_reader()
    reader.consume()
    reader.drain_until_it_waits()
    reader.redis.execute_command("CLIENT", "KILL", "ID", reader.channel._announcements.number)
    with pytest.raises(reader.connection.connection_errors):
        reader.drain(5)


def drain_until_it_fails(reader: Reader) -> None:
    while True:
        try:
            reader.connection.drain_events(timeout=0.2)
        except TimeoutError:
            """Nothing has come."""
        except reader.connection.connection_errors:
            return


def test_an_answer_that_never_comes_is_noticed(url):
    with network(url) as (between, through):
        reader = Reader(through, socket_timeout=0.5)
        reader.consume()
        reader.drain_until_it_waits()
        reader.channel.health_check_interval = 0.1  # for how long kombu waits beyond a second
        reader.channel._waits_until = 0.0
        between.lose()
        reader.channel._brpop_start()
        asked = reader.channel._request
        drain_until_it_fails(reader)  # it connects again, to a network that loses that too
        assert asked._sock is None
        between.recover()
        reader.close()


def test_one_that_waits_is_not_taken_for_one_that_gets_no_answer(make_reader):
    reader = make_reader()
    reader.consume()
    reader.drain_until_it_waits()
    assert reader.channel._in_poll
    assert reader.channel._brpop_sent_at is None


@pytest.mark.parametrize("rule", ["-client|tracking", "-eval"])
def test_without_the_rights_messages_come_as_kombu_takes_them(url, rule, caplog):
    with user(url, rule) as limited:
        reader = Reader(limited)
        reader.send("x")
        reader.consume()
        with caplog.at_level(logging.WARNING):
            assert reader.take() == ["x"]
            reader.send("y")
            assert reader.take() == ["y"]
        assert len(reader.kept()) == 2
        reader.close()
    warnings = [record.getMessage() for record in caplog.records if record.name == ours.__name__]
    assert len(warnings) == 1
    assert "the message is lost. Allow its user EVAL and CLIENT TRACKING." in warnings[0]


@pytest.mark.parametrize("url", ["memory://", "filesystem://"])
def test_other_brokers_are_left_alone(url):
    connection = kombu.Connection(url)
    transport = connection.get_transport_cls()
    assert with_reliable_transport(connection).get_transport_cls() is transport


def test_sentinels_channel_stays_sentinels():
    transport = with_reliable_transport(kombu.Connection("sentinel://localhost:26379")).get_transport_cls()
    assert issubclass(transport.Channel, kombu_redis.SentinelChannel)
    assert issubclass(transport.Channel, ReservingChannel)


def test_kombu_calls_what_is_replaced():
    """The private parts, by name."""
    for name in ("_brpop_start", "_brpop_read", "_in_poll", "_flush_brpop_reauth", "_q_for_pri", "_connparams"):
        assert hasattr(kombu_redis.Channel, name)
    assert callable(kombu_redis.MultiChannelPoller._register)


def test_what_is_taken_of_a_task_that_was_revoked_is_known_to_celery(make_reader):
    reader = make_reader()
    reader.redis.zadd("unacked:revoked", {"revoked": time.time() + 60, "forgotten": time.time() - 60})
    names = ["revoked", "forgotten", "wanted"]
    for name in names:
        reader.send(name, headers={"id": name})
    reader.send("without an id")
    reader.consume()
    assert reader.take(4) == [*names, "without an id"]
    assert [name in state.revoked for name in names] == [True, False, False]
    state.revoked.discard("revoked")


def test_it_is_not_looked_up_while_nothing_was_revoked(make_reader):
    reader = make_reader()
    for number in range(3):
        reader.send(number, headers={"id": str(number)})
    reader.redis.config_resetstat()
    reader.consume()
    reader.take(3)
    calls = reader.redis.info("commandstats")
    assert "cmdstat_zscore" not in calls
    assert calls["cmdstat_zadd"]["calls"] == 3
