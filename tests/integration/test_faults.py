"""Brokers and result backends that end, stall and are cut off: a worker comes back, and runs nothing twice."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import pytest
from celery import chord

from tests import services
from tests.integration.faults import Network, network, no_file_to_open, rabbitmq_vhost, rabbitmqctl
from tests.integration.stations import KINDS, Station, on, station
from tests.integration.workers import Worker
from tests.servers import OwnRabbitMQ, OwnRedis, own_rabbitmq, own_redis, own_sentinel
from tests.waiting import eventually

pytestmark = [pytest.mark.services, pytest.mark.timeout(420)]

FINISHED = ["began", "finished", "cleaned up"]

# So that a connection on which nothing comes any more is given up soon.
IMPATIENT: dict[str, Any] = {
    "broker_heartbeat": 2,
    "broker_transport_options": {
        "socket_timeout": 2,
        "socket_connect_timeout": 2,
        "health_check_interval": 1,
        "unacked_restore_interval": 1,
    },
}

# So that others soon do what a worker has left that was killed.
INHERITING = {
    "broker_transport_options": {
        "visibility_timeout": 3,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    },
}

CONTROLLED = {**IMPATIENT, "worker_enable_remote_control": True}


class Running:
    """Tasks that run while something goes wrong: some end meanwhile, some after it, and some begin after it."""

    def __init__(self, place: Station, worker: Worker) -> None:
        self.place = place
        self.worker = worker
        self.meanwhile = [place.send(task, "meanwhile") for task in ("late", "late", "early")]
        self.afterwards = [place.send(task, "afterwards") for task in ("late", "late", "early")]
        place.until("began", *self.meanwhile, *self.afterwards)

    def end_meanwhile(self) -> None:
        self.place.let_go("meanwhile")
        self.place.until("cleaned up", *self.meanwhile)

    def check(self) -> None:
        """Check that the worker is back, and that each task has run once."""
        place = self.place
        # What RabbitMQ delivers again because of the connection that was lost, it delivers to this worker, before the
        # tasks that are sent now.
        eventually(lambda: place.consumers() == 1, 90, place.consumers)
        fresh = [place.send("late", "afterwards") for _ in range(3)]
        place.until("began", *fresh)
        place.let_go("afterwards")
        place.until("cleaned up", *self.afterwards, *fresh)
        tasks = (*self.meanwhile, *self.afterwards, *fresh)
        eventually(lambda: {place.state(task) for task in tasks} == {"SUCCESS"})
        assert self.worker.stop() == 0
        # Whatever is still to be delivered again comes to this one.
        with place.worker(settings=IMPATIENT):
            place.until("cleaned up", place.send("late", "afterwards"))
            assert [place.of(task) for task in tasks] == [FINISHED] * len(tasks), self.worker.log


@contextmanager
def own_redis_and_worker() -> Iterator[tuple[OwnRedis, Running]]:
    with own_redis() as server, station("redis", server.url) as place, place.worker(settings=IMPATIENT) as worker:
        yield server, Running(place, worker)


@contextmanager
def network_and_worker(place: Station) -> Iterator[tuple[Network, Running]]:
    with network(place.broker) as (between, url), place.worker(broker=url, settings=IMPATIENT) as worker:
        yield between, Running(place, worker)


def test_redis_is_restarted() -> None:
    with own_redis_and_worker() as (server, running):
        server.stop()
        running.worker.wait_for_log("Connection to broker lost")
        running.end_meanwhile()
        server.start()
        running.check()


def test_what_waits_for_its_time_begins_after_redis_is_restarted() -> None:
    with own_redis_and_worker() as (server, running):
        place = running.place
        place.let_go("later")
        waiting = place.send("late", "later", countdown=3)
        running.worker.wait_for_log(rf"{waiting}\] received")
        server.stop()
        running.worker.wait_for_log("Connection to broker lost")
        server.start()
        place.until("cleaned up", waiting)
        running.end_meanwhile()
        running.check()
        assert place.of(waiting) == FINISHED


def test_redis_writes_nothing_for_a_moment() -> None:
    """As one does that is a replica for now, while another takes its place."""
    with own_redis_and_worker() as (server, running), server.client() as client:
        client.config_set("min-replicas-to-write", 1)
        running.worker.wait_for_log("Connection to broker lost")
        running.place.let_go("meanwhile")
        running.place.until("finished", *running.meanwhile)
        client.config_set("min-replicas-to-write", 0)
        running.end_meanwhile()
        running.check()


def test_remote_control_alone_loses_its_connection() -> None:
    with own_redis() as server, station("redis", server.url) as place, place.worker(settings=CONTROLLED) as worker:
        running = Running(place, worker)
        with server.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        worker.wait_for_log("Remote control has lost its connection|Connection to broker lost")
        eventually(lambda: place.app.control.ping(timeout=1))
        running.end_meanwhile()
        running.check()


@on("rabbitmq", "quorum")
def test_rabbitmq_closes_a_channel(place: Station) -> None:
    """As it does with one by which a message is not acknowledged for half an hour."""
    control, node = place.app.control, f"{place.queue}@test"  # other tests have workers on this RabbitMQ
    with place.worker("-n", node, settings=CONTROLLED) as worker:
        running = Running(place, worker)
        eventually(lambda: control.ping([node], timeout=1))
        control.broadcast("acknowledge_what_was_never_delivered", destination=[node])
        worker.wait_for_log("The broker refused something")
        running.end_meanwhile()
        running.check()


@on("rabbitmq")
def test_a_worker_with_no_room_for_more_keeps_its_connection(place: Station) -> None:
    with place.worker("-c", "2", settings=IMPATIENT) as worker:
        tasks = [place.send("late", "key") for _ in range(6)]
        place.until("began", *tasks[:2])
        time.sleep(4 * IMPATIENT["broker_heartbeat"])  # nothing tells of a heartbeat
        place.let_go("key")
        place.until("cleaned up", *tasks)
        assert [place.of(task) for task in tasks] == [FINISHED] * len(tasks)
        assert "Connection to broker lost" not in worker.log
        assert worker.stop() == 0


def test_redis_kills_its_clients() -> None:
    with own_redis_and_worker() as (server, running):
        server.close_connections()
        running.end_meanwhile()
        server.close_connections()
        running.check()


@on("redis")
def test_a_worker_is_killed_between_taking_a_batch_and_settling_it(place: Station) -> None:
    redis = place.records.redis
    tasks = [place.send(task, "key") for task in ("late", "early") * 8]
    with place.worker("-c", "4", settings=INHERITING) as worker:
        eventually(lambda: sum(place.of(task) == ["began"] for task in tasks) == 4)
        eventually(lambda: redis.hlen("unacked") > 4)
        worker.end()
    begun = [task for task in tasks if place.of(task)]
    assert len(begun) == 4
    place.let_go("key")
    again = [task for task in tasks[::2] if task in begun]
    others = [task for task in tasks if task not in begun]
    with place.worker(settings=INHERITING) as worker:
        place.until("cleaned up", *again, *others, timeout=90)
        eventually(lambda: {place.state(task) for task in (*again, *others)} == {"SUCCESS"})
        eventually(lambda: redis.hlen("unacked") == redis.zcard("unacked_index") == redis.llen(place.queue) == 0)
        assert worker.stop() == 0
    assert [place.of(task) for task in others] == [FINISHED] * len(others)
    assert [place.of(task) for task in again] == [["began", *FINISHED]] * len(again)
    assert [place.of(task) for task in begun if task not in again] == [["began"]] * (4 - len(again))


def test_a_worker_is_killed_between_storing_a_batch_and_settling_it() -> None:
    with own_redis() as server, network(server.url) as (between, url), station("redis", server.url) as place:
        with place.worker(broker=url, settings=INHERITING) as worker, server.client() as broker:
            tasks = [place.send("late", "key") for _ in range(8)]
            place.until("began", *tasks)
            between.lose()
            place.let_go("key")
            eventually(lambda: {place.state(task) for task in tasks} == {"SUCCESS"})
            assert broker.hlen("unacked") == len(tasks)
            worker.end()
        with place.worker(settings=INHERITING) as worker, server.client() as broker:
            place.until("cleaned up", *tasks, count=2, timeout=90)
            eventually(lambda: broker.hlen("unacked") == broker.zcard("unacked_index") == broker.llen(place.queue) == 0)
            assert worker.stop() == 0
        assert {place.state(task) for task in tasks} == {"SUCCESS"}
        assert [place.of(task) for task in tasks] == [FINISHED * 2] * len(tasks)


def test_redis_takes_all_results_but_one() -> None:
    """One that is larger than it takes, for which it closes the connection."""
    with own_redis() as server, station("rabbitmq", results=server.url) as place, place.worker() as worker:
        with server.client() as client:
            client.config_set("proto-max-bulk-len", 2**20)
        tasks = [place.send("late", "key") for _ in range(8)]
        large = place.send("large", "key", 2**21)
        place.until("began", *tasks, large)
        place.let_go("key")
        place.until("cleaned up", *tasks, large)
        eventually(lambda: {place.state(task) for task in tasks} == {"SUCCESS"})
        eventually(lambda: place.state(large) == "FAILURE")
        assert worker.stop() == 0


def test_redis_stalls_for_a_moment() -> None:
    with own_redis_and_worker() as (server, running):
        server.stall()
        running.end_meanwhile()
        server.go_on()
        running.check()


def test_redis_stalls_for_longer_than_the_worker_waits() -> None:
    with own_redis_and_worker() as (server, running):
        server.stall()
        running.end_meanwhile()
        running.worker.wait_for_log("Connection to broker lost")
        server.go_on()
        running.check()


@on(*KINDS)
def test_connections_are_cut(place: Station) -> None:
    with network_and_worker(place) as (between, running):
        between.cut()
        running.end_meanwhile()
        running.worker.wait_for_log("Connection to broker lost")
        between.cut()
        running.check()


@on(*KINDS)
def test_the_broker_cannot_be_reached(place: Station) -> None:
    with network_and_worker(place) as (between, running):
        between.refuse()
        running.worker.wait_for_log("Connection to broker lost")
        running.end_meanwhile()
        between.recover()
        running.check()


@on(*KINDS)
def test_the_network_loses_what_is_sent(place: Station) -> None:
    with network_and_worker(place) as (between, running):
        between.lose()
        running.worker.wait_for_log("Connection to broker lost", 90)
        running.end_meanwhile()
        between.recover()
        running.check()


@on(*KINDS)
def test_acknowledgements_are_lost_on_their_way(place: Station) -> None:
    with network_and_worker(place) as (between, running):
        between.lose()
        running.end_meanwhile()
        running.worker.wait_for_log("Connection to broker lost", 90)
        between.recover()
        running.check()


@on(*KINDS)
def test_no_file_can_be_opened_for_a_moment(place: Station) -> None:
    with network_and_worker(place) as (between, running):
        with no_file_to_open(running.worker.process.pid):
            between.cut()
            running.worker.wait_for_log("Connection to broker lost")
            running.worker.wait_for_log("[Tt]oo many open files")
        running.end_meanwhile()
        running.check()


def test_rabbitmq_closes_all_connections() -> None:
    with rabbitmq_vhost() as (name, url), station("rabbitmq", url) as place, place.worker(settings=IMPATIENT) as worker:
        running = Running(place, worker)
        rabbitmqctl("close_all_connections", "--vhost", name, "a test")
        worker.wait_for_log("Connection to broker lost")
        running.end_meanwhile()
        running.check()


SHORT_OF_MEMORY = {**IMPATIENT, "broker_heartbeat": 4}


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[OwnRabbitMQ]:
    """A RabbitMQ that a test may disturb. It takes long to start."""
    with own_rabbitmq() as server:
        yield server


def test_rabbitmq_is_short_of_memory(rabbitmq: OwnRabbitMQ) -> None:
    """It reads nothing more from connections by which something was sent, such as the events, and sends heartbeats."""
    with (
        station("rabbitmq", rabbitmq.url) as place,
        place.worker(settings=SHORT_OF_MEMORY) as worker,
    ):
        running = Running(place, worker)
        with rabbitmq.memory_alarm():
            eventually(rabbitmq.blocked)
            running.end_meanwhile()
        running.check()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_a_worker_ends_while_rabbitmq_is_short_of_memory(rabbitmq: OwnRabbitMQ, number: int) -> None:
    pools = ("gevent", "eventlet", "threads", "solo", "prefork")
    with ExitStack() as stack:
        places = {pool: stack.enter_context(station("rabbitmq", rabbitmq.url)) for pool in pools}
        workers = {
            pool: stack.enter_context(place.worker("-n", f"{pool}@%h", pool=pool, settings=SHORT_OF_MEMORY))
            for pool, place in places.items()
        }
        tasks = {pool: place.send("late", "key") for pool, place in places.items()}
        for pool, task in tasks.items():
            places[pool].until("began", task)
        with rabbitmq.memory_alarm():
            # A solo worker sends no events while its task runs.
            eventually(lambda: rabbitmq.blocked() >= len(pools) - 1, 90, rabbitmq.blocked)
            began = time.monotonic()
            for worker in workers.values():
                worker.process.send_signal(number)
            if number == signal.SIGTERM:
                for place in places.values():
                    place.let_go("key")
            took = {}
            for pool, worker in workers.items():
                assert worker.wait(90) == 0, worker.log
                took[pool] = time.monotonic() - began
            # That of cancellation and clean-up is 2 s, and that of RabbitMQ 4 s for each connection.
            assert max(took.values()) < 60, took


def test_the_result_backend_is_gone_and_comes_back() -> None:
    with own_redis() as server, station("rabbitmq", results=server.url) as place, place.worker() as worker:
        tasks = [place.send(task, "meanwhile") for task in ("late", "early")]
        place.until("began", *tasks)
        server.stop()
        place.let_go("meanwhile")
        place.until("finished", *tasks)
        worker.wait_for_log("cannot be stored in")
        server.start()
        eventually(lambda: {place.state(task) for task in tasks} == {"SUCCESS"})
        assert worker.stop() == 0
        assert [place.of(task) for task in tasks] == [FINISHED] * 2
        started = time.monotonic()
        with place.worker():
            place.until("cleaned up", place.send("late", "meanwhile"))
            assert time.monotonic() - started < 60
            assert [place.of(task) for task in tasks] == [FINISHED] * 2


def results_cannot_be_stored(
    place: Station, break_backend: Callable[[], object], mend_backend: Callable[[], object], **worker: Any
) -> None:
    """Nothing depends on what cannot be stored but the outcome, and that waits."""
    with place.worker("-c", "20", **worker) as running:
        before = [place.send(task, "key") for task in ("late", "early")]
        place.until("began", *before)
        break_backend()
        meanwhile = [place.send(task, "key") for task in (*["late"] * 6, *["early"] * 2)]
        place.until("began", *meanwhile)
        place.let_go("key")
        place.until("cleaned up", *before, *meanwhile)
        running.wait_for_log("cannot be stored in")
        assert not any("succeeded" in line for line in running.lines)
        mend_backend()
        eventually(lambda: {place.state(task) for task in (*before, *meanwhile)} == {"SUCCESS"})
        assert running.stop() == 0
        assert [place.of(task) for task in (*before, *meanwhile)] == [FINISHED] * 10
    with place.worker(**worker):
        place.until("cleaned up", place.send("late", "key"))
        assert [place.of(task) for task in (*before, *meanwhile)] == [FINISHED] * 10


@pytest.mark.parametrize(
    ("error", "pool"), [("OOM", "gevent"), ("OOM", "threads"), ("READONLY", "gevent"), ("NOREPLICAS", "gevent")]
)
def test_the_result_backend_refuses_writes(error: str, pool: str) -> None:
    with own_redis() as server, station("rabbitmq", results=server.url) as place:
        results_cannot_be_stored(place, lambda: server.refuse_writes(error), server.take_writes, pool=pool)


def test_the_result_backends_sentinel_has_no_master() -> None:
    with own_redis() as server, network(server.url) as (between, _url), own_sentinel(between.port) as sentinel:
        settings = {"backend_url": sentinel, "result_backend_transport_options": {"master_name": "master"}}
        with station("rabbitmq", results=server.url) as place:
            results_cannot_be_stored(place, between.refuse, between.recover, settings=settings)


def test_the_table_of_the_result_backend_is_away() -> None:
    with services.postgres_database() as url, station("rabbitmq") as place:
        settings = {"backend_url": f"db+{url.replace('postgresql:', 'postgresql+psycopg:')}"}

        def execute(statement: str) -> Any:
            with psycopg.connect(url, autocommit=True) as connection:
                return connection.execute(statement)

        def mend() -> None:
            execute("DROP TABLE IF EXISTS celery_taskmeta")
            execute("ALTER TABLE away RENAME TO celery_taskmeta")

        def states() -> list[tuple[str, ...]]:
            with psycopg.connect(url) as connection:
                return connection.execute("SELECT status FROM celery_taskmeta").fetchall()

        with place.worker(settings=settings) as worker:
            place.until("began", place.send("late", "key"))
            execute("ALTER TABLE celery_taskmeta RENAME TO away")
            tasks = [place.send("late", "key") for _ in range(3)]
            place.until("began", *tasks)
            place.let_go("key")
            place.until("cleaned up", *tasks)
            worker.wait_for_log("cannot be stored in")
            mend()
            eventually(lambda: states() == [("SUCCESS",)] * 4, 90, states)
            assert worker.stop() == 0
            assert [place.of(task) for task in tasks] == [FINISHED] * 3


@pytest.mark.parametrize("pool", ["gevent", "threads"])
def test_a_cold_shutdown_gives_back_what_cannot_be_stored(pool: str) -> None:
    with own_redis() as server, station("rabbitmq", results=server.url) as place:
        with place.worker(pool=pool) as worker:
            tasks = [place.send("late", "key") for _ in range(3)]
            place.until("began", *tasks)
            server.refuse_writes("OOM")
            place.let_go("key")
            place.until("cleaned up", *tasks)
            worker.wait_for_log("cannot be stored in")
            assert worker.stop(signal.SIGQUIT) == 0
        server.take_writes()
        with place.worker():
            place.until("cleaned up", *tasks, count=2)
            eventually(lambda: {place.state(task) for task in tasks} == {"SUCCESS"})


def test_a_result_that_waits_is_not_over_its_tasks_time_limit() -> None:
    with own_redis() as server, station("rabbitmq", results=server.url) as place, place.worker() as worker:
        server.refuse_writes("OOM")
        task = place.send("late", "key", time_limit=2)
        place.let_go("key")
        place.until("cleaned up", task)
        worker.wait_for_log("cannot be stored in")
        time.sleep(3)  # nothing tells of a limit that has no effect
        server.take_writes()
        eventually(lambda: place.state(task) == "SUCCESS")
        assert worker.stop() == 0
        assert place.of(task) == FINISHED


def test_a_chord_goes_on_when_its_parts_can_be_stored() -> None:
    with own_redis() as server, station("rabbitmq", results=server.url) as place, place.worker() as worker:
        late = place.app.signature("endurance.late", ("key",), immutable=True)
        body = chord([late, late])(late)
        parts = [part.id for part in body.parent.results]
        place.until("began", *parts)
        server.refuse_writes("OOM")
        place.let_go("key")
        place.until("cleaned up", *parts)
        worker.wait_for_log("cannot be stored in")
        server.take_writes()
        eventually(lambda: place.state(body.id) == "SUCCESS")
        assert worker.stop() == 0
