"""How a worker ends by a signal: what its tasks, their messages and its singletons come to, and how soon."""

import re
import signal
from pathlib import Path

import pytest

from tests.integration.faults import network
from tests.integration.pools import POOLS, Pool
from tests.integration.stations import KINDS, Station, assert_quiet, on
from tests.integration.workers import Worker
from tests.waiting import eventually

pytestmark = [pytest.mark.services, pytest.mark.timeout(420)]

FINISHED = ["began", "finished", "cleaned up"]
CANCELLED = ["began", "cancelled", "cleaned up"]

# A worker looks up from its broker within two seconds, and waits once more for Redis. A busy machine takes many times
# as long, and what hangs takes for ever.
PROMPTLY = 40


def send_some(place: Station) -> tuple[list[str], list[str]]:
    """Start tasks that are acknowledged late, and others early."""
    late = [place.send("late", "key") for _ in range(3)]
    early = [place.send("early", "key") for _ in range(2)]
    place.until("began", *late, *early)
    return late, early


def assert_resources_closed(place: Station) -> None:
    """Check that each worker closed once what it made."""
    pids = [what.removeprefix("made ") for what in place.of("resource") if what.startswith("made")]
    assert sorted(place.of("resource")) == sorted(f"{what} {pid}" for pid in pids for what in ("made", "closed"))


def assert_cancelled(place: Station, worker: Worker, late: list[str], early: list[str]) -> None:
    """Check that tasks were cancelled, and that the next worker has those that are acknowledged late."""
    assert [place.of(task) for task in (*late, *early)] == [CANCELLED] * 5
    assert {place.state(task) for task in early} == {"REVOKED"}
    assert_resources_closed(place)
    assert_quiet(worker)
    place.let_go("key")
    with place.worker():
        place.until("cleaned up", *late, count=2)
    assert [place.of(task) for task in late] == [CANCELLED + FINISHED] * 3
    assert [place.of(task) for task in early] == [CANCELLED] * 2


@on(*KINDS)
def test_sigterm_lets_running_tasks_finish_however_often_it_comes(place: Station) -> None:
    with place.worker() as worker:
        late, early = send_some(place)
        for _ in range(3):
            seen = len(worker.lines)
            worker.process.send_signal(signal.SIGTERM)
            worker.wait_for_log("Warm shutdown", after=seen)
        assert [place.of(task) for task in (*late, *early)] == [["began"]] * 5
        waiting = place.send("late", "key")
        place.let_go("key")
        assert worker.wait(PROMPTLY) == 0
        assert [place.of(task) for task in (*late, *early)] == [FINISHED] * 5
        assert {place.state(task) for task in (*late, *early)} == {"SUCCESS"}
        assert_resources_closed(place)
        assert_quiet(worker)
    with place.worker():
        # Had an acknowledgement been lost, another would run again.
        place.until("cleaned up", waiting)
        assert [place.of(task) for task in (*late, *early)] == [FINISHED] * 5


@on(*KINDS)
def test_sigquit_cancels_tasks_and_puts_late_ones_back(place: Station) -> None:
    with place.worker() as worker:
        late, early = send_some(place)
        assert worker.stop(signal.SIGQUIT, PROMPTLY) == 0
        assert_cancelled(place, worker, late, early)


@on("redis", "rabbitmq")
def test_sigquit_cuts_a_warm_shutdown_short(place: Station) -> None:
    with place.worker() as worker:
        late, early = send_some(place)
        worker.process.send_signal(signal.SIGTERM)
        worker.wait_for_log("Warm shutdown")
        assert worker.stop(signal.SIGQUIT, PROMPTLY) == 0
        assert_cancelled(place, worker, late, early)


@on("redis")
def test_sigint_is_warm_once_and_cold_twice(place: Station) -> None:
    with place.worker() as worker:
        late, early = send_some(place)
        worker.process.send_signal(signal.SIGINT)
        worker.wait_for_log("Warm shutdown")
        assert [place.of(task) for task in (*late, *early)] == [["began"]] * 5
        # Celery's codes: 1 for what a SIGINT begins, 0 for a cold shutdown, whichever it notices first.
        assert worker.stop(signal.SIGINT, PROMPTLY) in (0, 1)
        assert_cancelled(place, worker, late, early)


@on("redis")
def test_sigint_thrice_still_cleans_up(place: Station) -> None:
    with place.worker() as worker:
        task = place.send("swallow")
        place.until("began", task)
        for answer in ("Warm shutdown", "will terminate all running tasks"):
            worker.process.send_signal(signal.SIGINT)
            worker.wait_for_log(answer)
        place.until("swallowed", task)
        assert worker.stop(signal.SIGINT, PROMPTLY) in (0, 1)
        assert place.of(task) == ["began", "swallowed", "cleaned up"]
        assert_resources_closed(place)


@on("redis")
def test_remapped_sigterm_is_cold(place: Station) -> None:
    with place.worker(REMAP_SIGTERM="SIGQUIT") as worker:
        late, early = send_some(place)
        assert worker.stop(signal.SIGTERM, PROMPTLY) == 0
        assert_cancelled(place, worker, late, early)


@on("redis", "rabbitmq")
def test_a_soft_shutdown_gives_tasks_time(place: Station) -> None:
    with place.worker(settings={"worker_soft_shutdown_timeout": 5}) as worker:
        short, long = place.send("late", "short"), place.send("late", "key")
        later = place.send("late", "key", countdown=60)
        place.until("began", short, long)
        worker.wait_for_log(rf"{later}\] received")
        worker.process.send_signal(signal.SIGQUIT)
        worker.wait_for_log("Initiating Soft Shutdown, terminating in 5")
        place.let_go("short")
        assert worker.wait(PROMPTLY) == 0
        assert (place.of(short), place.of(long), place.of(later)) == (FINISHED, CANCELLED, [])
        assert_resources_closed(place)
        assert_quiet(worker)
    place.let_go("key")
    with place.worker() as worker:
        place.until("cleaned up", long, count=2)
        worker.wait_for_log(rf"{later}\] received")
        assert place.of(short) == FINISHED


@on("redis")
def test_a_soft_shutdown_of_an_idle_worker_waits_if_it_is_told_to(place: Station) -> None:
    settings = {"worker_soft_shutdown_timeout": 10, "worker_enable_soft_shutdown_on_idle": True}
    with place.worker(settings=settings) as worker:
        place.let_go("key")
        later = place.send("late", "key", countdown=1)
        worker.wait_for_log(rf"{later}\] received")
        assert worker.stop(signal.SIGQUIT, PROMPTLY) == 0
        assert "Initiating Soft Shutdown" in worker.log
        assert place.of(later) == FINISHED
        assert_quiet(worker)


@on("redis", "rabbitmq")
@pytest.mark.parametrize("pool", ["gevent", "threads"])
def test_a_task_that_waits_for_room_does_not_begin_after_sigterm(place: Station, pool: str) -> None:
    with place.worker("-c", "2", pool=pool) as worker:
        tasks = [place.send("late", "key") for _ in range(5)]
        eventually(lambda: sum(place.of(task) == ["began"] for task in tasks) == 2)
        worker.process.send_signal(signal.SIGTERM)
        worker.wait_for_log("Warm shutdown")
        place.let_go("key")
        assert worker.wait(PROMPTLY) == 0
        assert sorted(map(place.of, tasks)) == [[]] * 3 + [FINISHED] * 2
        assert_quiet(worker)
    with place.worker(pool=pool):
        place.until("cleaned up", *tasks)
        assert [place.of(task) for task in tasks] == [FINISHED] * 5


@on("redis", "rabbitmq")
def test_nothing_begins_after_sigquit(place: Station) -> None:
    with place.worker(settings={"worker_soft_shutdown_timeout": 2}) as worker:
        place.let_go("key")
        later = place.send("late", "key", countdown=5)
        worker.wait_for_log(rf"{later}\] received")
        assert worker.stop(signal.SIGQUIT, PROMPTLY) == 0
        assert "Initiating Soft Shutdown" not in worker.log
        assert place.of(later) == []
        assert_quiet(worker)
    with place.worker():
        place.until("cleaned up", later)
    assert place.of(later) == FINISHED


@on("redis")
def test_tasks_that_do_not_let_go_are_cut_off(place: Station) -> None:
    with place.worker() as worker:
        swallowing, hanging = place.send("swallow"), place.send("hang_in_cleanup")
        place.until("began", swallowing, hanging)
        assert worker.stop(signal.SIGQUIT, PROMPTLY) == 0
        assert place.of(swallowing) == ["began", "swallowed", "cleaned up"]
        assert place.of(hanging) == ["began", "hanging", "cleaned up"]
        worker.wait_for_log(rf"{swallowing}\] did not stop within 1\.0 s after cancellation: closing its")
        worker.wait_for_log(rf"SlowToClean\.__aclose__ of .*{hanging}\] was cut off after 1\.0 s")
        assert_resources_closed(place)
        assert_quiet(worker)


@on("redis")
def test_a_handler_that_holds_up_the_loop_delays_the_end_by_as_much(place: Station) -> None:
    with place.worker() as worker:
        held, blocking = place.send("late", "key"), place.send("block", 3)
        place.until("began", held, blocking)
        assert worker.stop(signal.SIGQUIT, PROMPTLY + 3) == 0
        assert place.of(held) == CANCELLED
        assert_resources_closed(place)


@on("redis")
@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_the_exit_code_says_by_which_signal_as_celerys_does(place: Station, pool: Pool) -> None:
    for number, code in ((signal.SIGTERM, 0), (signal.SIGINT, 1)):
        with place.worker(pool=pool.name) as worker:
            assert worker.stop(number, PROMPTLY) == code


@on("redis", "rabbitmq")
@pytest.mark.parametrize("pool", ["gevent", "eventlet", "threads", "solo"])
def test_a_worker_that_is_held_up_for_ever_ends_all_the_same(place: Station, pool: str, tmp_path: Path) -> None:
    with place.worker(pool=pool, settings={"pico_blocked_timeout": 2}) as worker:
        blocking = place.send("block_until", str(tmp_path / "file"))
        place.until("began", blocking)
        assert worker.stop(signal.SIGTERM, PROMPTLY) == 1
        assert re.search(rf"asked to stop, but .* held up by task endurance\.block_until\[{blocking}\]", worker.log)
        assert "_wait_for_file(Path(path))" in worker.log
        assert "pico_blocked_timeout" in worker.log


@on("redis", "rabbitmq")
@pytest.mark.parametrize(("pool", "count"), [("eventlet", 2), ("threads", 2), ("solo", 1), ("prefork", 2)])
def test_sigquit_means_the_same_on_other_pools(place: Station, pool: str, count: int) -> None:
    with place.worker(pool=pool) as worker:
        # It comes first, so that RabbitMQ has answered what the worker asks because of it.
        waiting = place.send("late", "key", countdown=60)
        worker.wait_for_log(rf"{waiting}\] received")
        late = [place.send("late", "key") for _ in range(count)]
        place.until("began", *late)
        worker.process.send_signal(signal.SIGQUIT)
        assert worker.wait(PROMPTLY) == 0
        assert [place.of(task) for task in late] == [CANCELLED] * count
        assert_resources_closed(place)
        assert_quiet(worker)
    place.let_go("key")
    with place.worker(pool=pool) as worker:
        place.until("cleaned up", *late, count=2)
        worker.wait_for_log(rf"{waiting}\] received")
        assert [place.of(task) for task in late] == [CANCELLED + FINISHED] * count


@on("rabbitmq")
def test_sigquit_is_obeyed_while_rabbitmq_is_asked_something(place: Station) -> None:
    held, waiting = place.send("late", "key"), place.send("late", "key", countdown=60)
    with network(place.broker, delay=0.3) as (_, slow):
        for number, pool in enumerate(("gevent", "threads", "prefork"), 1):
            with place.worker(broker=slow, pool=pool) as worker:
                place.until("began", held, count=number)
                # For each task that waits for its time, the worker asks to be given one more.
                worker.wait_for_log(rf"{waiting}\] received")
                assert worker.stop(signal.SIGQUIT, 3 * PROMPTLY) == 0
                assert place.of(held) == CANCELLED * number
                assert_quiet(worker)
