"""The gevent loop, in a process of its own that gevent has patched: see `gevent_cases.py`."""

import pytest

from tests.unit.worker import cases
from tests.unit.worker.loop import gevent_cases


@pytest.fixture(scope="module")
def failures() -> dict[str, str]:
    return cases.failures(gevent_cases)


@pytest.mark.parametrize("case", cases.names(gevent_cases))
def test_under_gevent(failures, case):
    assert case not in failures, failures[case]
