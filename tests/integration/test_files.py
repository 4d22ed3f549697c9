"""On each pool: a worker that may not open many files takes fewer tasks, and finishes all."""

from pathlib import Path

import pytest

from tests.integration.pools import POOLS, Pool
from tests.integration.stations import station
from tests.integration.workers import celery, running_worker
from tests.waiting import eventually

pytestmark = [pytest.mark.services, pytest.mark.timeout(420)]

LIMIT = 40


@pytest.mark.parametrize(
    ("pool", "kind"),
    [(POOLS[0], "rabbitmq"), *((pool, "redis") for pool in POOLS if pool.name != "solo")],
    ids=str,
)
def test_a_worker_takes_as_many_tasks_as_it_may_open_files_for(pool: Pool, kind: str) -> None:
    options = ("-P", pool.name, "-c", "1000")
    with (
        station(kind) as place,
        running_worker(
            *("files", *options),
            broker=place.broker,
            backend=place.backend,
            queue=place.queue,
            is_alone=False,
            TEST_FILES=str(LIMIT),
        ) as worker,
    ):
        assert "which is too few for 1000 tasks at a time" in worker.log
        open_files = Path(f"/proc/{worker.process.pid}/fd")
        count = 40 if pool.name == "prefork" else 300
        waiting = {place.app.send_task("files.connect", [0.05], ignore_result=False).id for _ in range(count)}

        def all_succeeded() -> bool:
            if open_files.exists():  # which it does on Linux only
                assert len([*open_files.iterdir()]) < LIMIT
            waiting.difference_update([task for task in waiting if place.state(task) == "SUCCESS"])
            return not waiting

        eventually(all_succeeded, 90)
        assert worker.stop() == 0
        assert "Too many open files" not in worker.log


def test_a_worker_that_may_open_none_for_a_task_does_not_start() -> None:
    with station("redis") as place:
        variables = {"TEST_BROKER_URL": place.broker, "TEST_BACKEND_URL": place.backend, "TEST_FILES": "30"}
        with celery("worker", "files", "-P", "gevent", **variables) as worker:
            assert worker.wait() == 1
            assert "The worker cannot start: This process may open 30 files" in worker.log


def test_a_worker_whose_tasks_have_opened_all_files_takes_fewer_and_recovers(tmp_path: Path) -> None:
    with (
        station("redis") as place,
        running_worker(
            *("files", "-P", "gevent", "-c", "20"),
            broker=place.broker,
            backend=place.backend,
            queue=place.queue,
            TEST_FILES="140",
        ) as worker,
    ):
        send = place.app.send_task
        greedy = send("files.take_all", [str(tmp_path / "enough")], ignore_result=False).id
        worker.wait_for_log("All files are open")
        waiting = [send("files.connect", [0.01], ignore_result=False).id for _ in range(40)]
        worker.wait_for_log("This process can open no more files, with 1 tasks running: it takes fewer")
        (tmp_path / "enough").touch()
        eventually(lambda: all(place.state(task) == "SUCCESS" for task in [greedy, *waiting]), 120)
        assert worker.log.count("can open no more files") == 1
        assert worker.stop() == 0
        assert "Too many open files" not in worker.log
