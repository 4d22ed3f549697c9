"""How pytest-xdist spreads the tests over processes.

Tests of real workers mostly wait, so there are three processes for each core. Each test that starts workers of its own
is given out by itself, tests that share a pool's worker or a RabbitMQ stay together, and so do the other tests of a
file.
"""

import os
import re
from typing import Any, Final

import pytest

try:
    from xdist.scheduler import LoadScopeScheduling
except ImportError:  # without pytest-xdist, one process runs all
    LoadScopeScheduling = object

_OF_THEIR_OWN_WORKERS: Final = re.compile(
    r"tests/integration/test_(crash|faults|shutdown|reception|files|lifecycle)\.py::"
)
_OF_A_POOLS_WORKER: Final = re.compile(
    r"tests/integration/test_(canvas|celery_features|cleanup|interruption|outcomes)\.py::\w+\[(?P<pool>[a-z]+)"
)

_OF_A_RABBITMQ_OF_ITS_OWN: Final = "short_of_memory"


def group_of(nodeid: str) -> str:
    """Return the name of the group with which a test is given to a process.

    Args:
        nodeid: The test's, such as "tests/unit/core/test_app.py::test_name[param]".
    """
    if _OF_A_RABBITMQ_OF_ITS_OWN in nodeid:
        return _OF_A_RABBITMQ_OF_ITS_OWN
    if _OF_THEIR_OWN_WORKERS.match(nodeid):
        return nodeid
    shared = _OF_A_POOLS_WORKER.match(nodeid)
    return shared["pool"] if shared else nodeid.partition("::")[0]


class _Scheduler(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Run three processes for each core."""
    return 3 * len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 3 * (os.cpu_count() or 1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give out tests by their groups, in the order of their collection: integration tests first."""
    config.option.loadscopereorder = False
    return _Scheduler(config, log)
