"""One worker for each pool, which all tests of that pool share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import services
from tests.integration.pools import POOLS, Pool
from tests.integration.shared import Records, SharedWorker
from tests.integration.stations import Station, station
from tests.integration.workers import running_worker, sender


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs on a shared worker as needing services, and all but a smoke test as thorough."""
    for item in items:
        if "worker" in getattr(item, "fixturenames", ()):
            item.add_marker("services")
        if item.path.is_relative_to(_HERE) and not _is_smoke(item):
            item.add_marker("thorough")


_HERE = Path(__file__).parent


def _is_smoke(item: pytest.Item) -> bool:
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    return item.get_closest_marker("smoke") is not None and str(parameters.get("pool", "gevent")) == "gevent"


@pytest.fixture(scope="session", params=POOLS, ids=str)
def pool(request: pytest.FixtureRequest) -> Pool:
    """Each pool in turn."""
    return request.param


@pytest.fixture(scope="session")
def worker(pool: Pool) -> Iterator[SharedWorker]:
    """A worker of the pool that runs the tasks of tests/integration/apps/suite.py."""
    with services.redis_database() as url, sender(url, url) as app:
        records = Records(url)
        with running_worker("suite", *pool.options, "-E", broker=url, backend=url) as process, records.redis:
            yield SharedWorker(pool, process, url, app, records)


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Iterator[Station]:
    """A station for this test alone, on the kind of broker that `on` names."""
    with station(request.param) as place:
        yield place
