"""The timer of the gevent pool, in a process of its own that gevent has patched: see `timers_cases.py`."""

import pytest

from tests.unit.worker import cases
from tests.unit.worker.pools import timers_cases


@pytest.fixture(scope="module")
def failures() -> dict[str, str]:
    return cases.failures(timers_cases)


@pytest.mark.parametrize("case", cases.names(timers_cases))
def test_under_gevent(failures, case):
    assert case not in failures, failures[case]
