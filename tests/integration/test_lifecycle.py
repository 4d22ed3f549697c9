"""On each pool: what a worker makes before its first task, and what it leaves behind."""

import re
import signal
from collections.abc import Callable

import pytest
from celery.result import ResultSet

from pico_celery_core.errors import ResolutionError
from tests import services
from tests.integration.pools import Pool
from tests.integration.shared import Records
from tests.integration.workers import celery, running_worker, sender
from tests.waiting import eventually

pytestmark = pytest.mark.services

MADE = ["database made", "cache made", "feed made"]
CLOSED = ["feed closed", "cache closed", "database closed", "listener ended"]


def test_the_life_of_a_worker(pool: Pool) -> None:
    with services.redis_database() as url, sender(url, url) as app:
        records = Records(url)
        # They wait before the worker starts, so that all of them want the singletons at once.
        waiting = ResultSet([app.send_task("resources.query") for _ in range(300)], app=app)
        with running_worker("resources", *pool.options, broker=url, backend=url) as worker, records.redis:
            answers = waiting.get(timeout=60)
            made = {tuple(answer) for answer in answers}
            processes = {process for process, _ in made}
            assert len(made) == len(processes) <= pool.processes
            for process in processes:
                assert records.of(f"process:{process}") == MADE

            held = ResultSet([app.send_task("resources.hold", ["key"]) for _ in range(min(pool.concurrency, 5))])
            eventually(lambda: len(records.of("key")) == len(held))
            worker.process.send_signal(signal.SIGTERM)
            worker.wait_for_log("Warm shutdown")
            records.redis.incr("arrivals:key")
            assert worker.wait() == 0
            assert held.get(timeout=60) == ["finished"] * len(held)
            for process in processes:
                made, tasks, closed = split(records.of(f"process:{process}"))
                assert made == MADE
                assert tasks.count("task ended") == tasks.count("session closed") == len(held) / len(processes)
                assert [what for what in closed if what not in ("reports closed", "metrics closed")] == CLOSED
                assert closed.index("reports closed") < closed.index("metrics closed")
            assert records.of("unused") == []
            worker.wait_for_log(r"Clean-up Reports\.close of the container failed")


def split(records: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Split what a process has recorded: what was made, what its tasks did, what was closed."""
    made = len([what for what in records if what.endswith("made")])
    tasks = len([what for what in records if what in ("task ended", "session closed")])
    return records[:made], records[made : made + tasks], records[made + tasks :]


def test_a_singleton_that_fails_stops_the_worker(pool: Pool) -> None:
    with services.redis_database() as url, sender(url, url) as app:
        variables = {"TEST_BROKER_URL": url, "TEST_BACKEND_URL": url, "TEST_FAIL": "1"}
        with celery("worker", "resources", *pool.options, **variables) as worker:
            if pool.processes == 1:
                assert worker.wait(90) != 0
                worker.wait_for_log("The worker cannot start: .*the database is not there")
            else:
                worker.wait_for_log("Could not create the singletons that tasks depend on.*the database is not there")
                with pytest.raises(ResolutionError, match="the database is not there"):
                    app.send_task("resources.query").get(timeout=60)
                assert worker.stop() == 0
            assert "Closing the container failed" not in worker.log


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda url: url.replace(":guest@", ":s3cret@"), r"ACCESS_REFUSED.*Check user and password in broker_url"),
        (lambda url: url.rstrip("/") + "/nope", r"vhost nope not found\. Check the virtual host"),
    ],
    ids=["password", "virtual host"],
)
def test_a_broker_that_lets_nobody_in_stops_the_worker(
    pool: Pool, rabbitmq_url: str, change: Callable[[str], str], told: str
) -> None:
    with services.redis_database() as url:
        variables = {"TEST_BROKER_URL": change(rabbitmq_url), "TEST_BACKEND_URL": url}
        with celery("worker", "basic", "--without-mingle", "--without-gossip", *pool.options, **variables) as worker:
            assert worker.wait(90) == 1
    (line,) = [line for line in worker.lines if "CRITICAL" in line]
    assert re.search(rf"The worker cannot start: amqp://guest:\*\*@.*{told}", line)
    assert "Traceback" not in worker.log
    assert "s3cret" not in worker.log
