"""A worker that is killed: what it had in hand is executed by those that live, without a restart."""

import signal
import tempfile
import time
from pathlib import Path

import pytest

from tests.integration.pools import POOLS, Pool
from tests.integration.stations import KINDS, Station, on
from tests.waiting import eventually

pytestmark = [pytest.mark.services, pytest.mark.timeout(420)]

VISIBILITY_TIMEOUT = 4
SETTINGS = {
    "broker_transport_options": {
        "visibility_timeout": VISIBILITY_TIMEOUT,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    }
}
# How often a worker may die until all is done but what kills it. Each life finishes half of the rest, more or less.
MANY_DEATHS = 30

FINISHED = ["began", "finished", "cleaned up"]
EXECUTED_BY_THE_NEXT = ["began", "began", "finished", "cleaned up"]


def left_in_redis(place: Station) -> int:
    """Count the messages that Redis keeps as not acknowledged."""
    return place.records.redis.hlen("unacked")


@on(*KINDS)
def test_a_killed_workers_tasks_are_executed_by_one_that_lives(place: Station) -> None:
    with place.worker(settings=SETTINGS) as killed:
        running = [place.send("late", "key") for _ in range(5)]
        place.until("began", *running)
        with place.worker(settings=SETTINGS):
            killed.process.kill()
            killed.wait()
            place.let_go("key")
            died = time.monotonic()
            place.until("cleaned up", *running)
            took = time.monotonic() - died
            assert [place.of(task) for task in running] == [EXECUTED_BY_THE_NEXT] * 5
            assert took < 30 * VISIBILITY_TIMEOUT  # RabbitMQ notices at once, and then they begin a few at a time
            eventually(lambda: left_in_redis(place) == 0)


@on("redis")
def test_one_that_asks_other_workers_first_takes_messages_in_one_step(place: Station) -> None:
    def commands() -> set[str]:
        clients = [client for client in place.records.redis.client_list() if int(client["db"]) == database]
        return {"waits" if "b" in client["flags"] else client["cmd"] for client in clients}

    database = place.records.redis.connection_pool.connection_kwargs["db"]
    with place.worker(is_alone=False) as worker:
        worker.wait_for_log("mingle: ")
        place.let_go("key")
        place.until("cleaned up", place.send("late", "key"))
        eventually(lambda: "eval" in commands())
        assert "waits" not in commands()  # which is what BRPOP does; one that has done so before may be left idle


@on("redis")
def test_a_busy_worker_finds_the_messages_too(place: Station) -> None:
    """One that never has two quiet seconds."""
    with place.worker(settings=SETTINGS) as killed:
        running = [place.send("late", "key") for _ in range(5)]
        place.until("began", *running)
        with place.worker(settings=SETTINGS):
            killed.process.kill()
            killed.wait()
            place.let_go("key")
            deadline = time.monotonic() + 30 * VISIBILITY_TIMEOUT
            while not all("finished" in place.of(task) for task in running):
                assert time.monotonic() < deadline, [place.of(task) for task in running]
                place.until("cleaned up", place.send("early", "key"))


@on("redis")
def test_what_waits_for_its_time_or_its_turn_is_not_lost(place: Station) -> None:
    with place.worker("-c", "2", settings=SETTINGS) as killed:
        running = [place.send("late", "key") for _ in range(2)]
        place.until("began", *running)
        in_turn = place.send("late", "key")
        in_time = place.send("late", "key", countdown=5)
        killed.wait_for_log(rf"{in_turn}\] received")
        with place.worker(settings=SETTINGS):
            killed.process.kill()
            killed.wait()
            place.let_go("key")
            place.until("cleaned up", *running, in_turn, in_time)
            assert place.of(in_turn) == place.of(in_time) == ["began", "finished", "cleaned up"]


@on("redis")
def test_what_outlasts_the_visibility_timeout_runs_once(place: Station) -> None:
    with place.worker(settings=SETTINGS) as worker, place.worker(settings=SETTINGS) as other:
        began = time.time()
        running = place.send("late", "key")
        place.until("began", running)
        waiting = place.send("late", "key", countdown=3 * VISIBILITY_TIMEOUT)
        eventually(lambda: has_renewed(place, 2, began))
        place.let_go("key")
        place.until("cleaned up", running, waiting)
        eventually(lambda: left_in_redis(place) == 0)
        assert worker.stop() == other.stop() == 0
        assert place.of(running) == place.of(waiting) == FINISHED


@on("redis")
@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_a_worker_that_is_held_up_keeps_its_messages(place: Station, pool: Pool) -> None:
    """Another one is there, to which Redis would give them."""
    with (
        tempfile.TemporaryDirectory() as folder,
        place.worker("-c", "4", pool=pool.name, settings=SETTINGS) as worker,
    ):
        free = Path(folder, "free")
        running = [] if pool.name == "solo" else [place.send("late", "key") for _ in range(2)]
        place.until("began", *running)
        waiting = place.send("late", "key", countdown=1)
        worker.wait_for_log(rf"{waiting}\] received")
        blocking = place.send("block_until", str(free))
        place.until("began", blocking)
        tasks = [*running, waiting, blocking]
        with place.worker(settings=SETTINGS) as other:
            since = time.time()
            eventually(lambda: has_renewed(place, len(tasks), since))
            free.touch()
            place.let_go("key")
            place.until("cleaned up", *tasks)
            eventually(lambda: left_in_redis(place) == 0)
            assert worker.stop() == other.stop() == 0
            assert [place.of(task) for task in tasks] == [FINISHED] * len(tasks)


def has_renewed(place: Station, count: int, since: float) -> bool:
    """Tell whether so many messages have long been in hand without being given out again."""
    latest = place.records.redis.zrange("unacked_index", 0, -1, withscores=True)
    return len(latest) == count and min(score for _, score in latest) > since + 2 * VISIBILITY_TIMEOUT


@on("redis")
@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_a_worker_that_stops_keeps_its_messages(place: Station, pool: Pool) -> None:
    with place.worker(pool=pool.name, settings=SETTINGS) as worker:
        running = place.send("late", "key")
        place.until("began", running)
        with place.worker(settings=SETTINGS) as other:
            worker.process.send_signal(signal.SIGTERM)
            worker.wait_for_log("Warm shutdown")
            since = time.time()
            eventually(lambda: has_renewed(place, 1, since))
            place.let_go("key")
            place.until("cleaned up", running)
            assert worker.wait() == other.stop() == 0
            assert place.of(running) == FINISHED


@on(*KINDS)
def test_a_task_that_kills_its_worker_does_not_starve_the_others(place: Station) -> None:
    killer = place.send("kill")
    others = [place.send("late", "key", 0.5) for _ in range(16)]

    def unfinished() -> list[str]:
        return [task for task in others if "finished" not in place.of(task)]

    deaths = []
    while unfinished():
        deaths.append(len(unfinished()))
        assert len(deaths) < MANY_DEATHS, deaths
        with place.worker(settings=SETTINGS) as worker:
            eventually(lambda: worker.process.poll() is not None or not unfinished())
    assert place.of(killer).count("began") <= len(deaths)
