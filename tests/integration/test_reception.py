"""On each pool: what fails while a message is received does not cost the message, unless it is what is wrong."""

import pytest

from tests.integration.pools import POOLS, Pool
from tests.integration.stations import station
from tests.integration.workers import celery
from tests.waiting import eventually

pytestmark = [pytest.mark.services, pytest.mark.timeout(420)]

BROKERS = ("redis", "rabbitmq")


@pytest.mark.parametrize("kind", BROKERS)
@pytest.mark.parametrize(
    ("pool", "error"),
    [*((pool, "AttributeError") for pool in POOLS), (POOLS[0], "KeyError"), (POOLS[0], "MemoryError")],
    ids=str,
)
def test_an_extension_that_fails_ends_the_worker_and_costs_no_message(pool: Pool, kind: str, error: str) -> None:
    with station(kind) as place:
        place.let_go("key")
        with place.worker(app="reception", pool=pool.name, TEST_ERROR=error) as worker:
            tasks = [place.send("late", "key") for _ in range(3)]
            assert worker.wait() == 1
            assert "could not be received" in worker.log
            assert error in worker.log
        assert [place.of(task) for task in tasks] == [[]] * 3
        with place.worker(pool=pool.name):
            place.until("cleaned up", *tasks)
            eventually(lambda: {place.state(task) for task in tasks} == {"SUCCESS"})


@pytest.mark.parametrize("kind", BROKERS)
@pytest.mark.parametrize("pool", [pool for pool in POOLS if pool.name in ("gevent", "prefork")], ids=str)
def test_a_worker_connects_again_after_what_may_be_the_loss_of_its_connection(pool: Pool, kind: str) -> None:
    with station(kind) as place:
        place.let_go("key")
        with place.worker(app="reception", pool=pool.name, TEST_ERROR="OSError") as worker:
            tasks = [place.send("late", "key") for _ in range(3)]
            place.until("cleaned up", *tasks)
            assert "Connection to broker lost" in worker.log
            assert worker.stop() == 0


@pytest.mark.parametrize("kind", BROKERS)
@pytest.mark.parametrize("pool", [pool for pool in POOLS if pool.name != "solo"], ids=str)
def test_a_worker_grows_with_its_tasks(pool: Pool, kind: str) -> None:
    with station(kind) as place, place.worker("--autoscale=2,1", pool=pool.name) as worker:
        tasks = [place.send("early", "key") for _ in range(20)]
        eventually(lambda: sum("began" in place.of(task) for task in tasks) == 2)
        place.let_go("key")
        place.until("cleaned up", *tasks)
        assert worker.stop() == 0
        assert "Traceback" not in worker.log


def test_a_worker_that_cannot_grow_does_not_start() -> None:
    with station("redis") as place:
        variables = {"TEST_BROKER_URL": place.broker, "TEST_BACKEND_URL": place.backend}
        with celery("worker", "endurance", "-P", "solo", "--autoscale=2,1", **variables) as worker:
            assert worker.wait() == 1
            assert "--autoscale cannot be used with the solo pool, whose size is fixed" in worker.log
