"""docs/reference/pools.md says of each pool what the tests show."""

import pytest

from tests.integration.pools import POOLS, Pool
from tests.integration.workers import ROOT


@pytest.fixture(scope="module")
def table() -> dict[str, dict[str, str]]:
    """The cells of the page's table: by pool, then by row."""
    page = (ROOT / "docs" / "reference" / "pools.md").read_text()
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("|")]
    pools, rows = lines[0], lines[2:]
    return {pool: {row[0]: row[place] for row in rows} for place, pool in enumerate(pools, 1)}


@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_the_page_agrees_with_the_tests(table: dict[str, dict[str, str]], pool: Pool) -> None:
    one_at_a_time = pool.concurrency == pool.processes
    assert table[pool.name] == {
        "tasks at once in a process": "1" if one_at_a_time else "`-c`",
        "`soft_time_limit` is raised in the coroutine": "yes",
        "`time_limit` ends the task, and clean-up runs": pool.hard_limit,
        "`revoke(terminate=True)` ends the task, and clean-up runs": pool.terminate,
        "remote control is answered while a task runs": "yes" if pool.listens else "no",
        "a singleton that cannot be made stops the worker": "yes" if pool.processes == 1 else "no",
        "`--autoscale`": "no" if pool.name == "solo" else "yes",
        "asyncio's subprocesses, DNS and `to_thread`": "yes",
        "warm shutdown: tasks finish, then singletons are closed": "yes",
        "cold shutdown: tasks are cancelled and clean up, messages go back": "yes",
    }


def test_the_page_knows_every_pool(table: dict[str, dict[str, str]]) -> None:
    assert [*table] == [pool.name for pool in POOLS]
