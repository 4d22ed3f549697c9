"""Signals under gevent, in a process of its own that gevent has patched: see `signal_cases.py`."""

import pytest

from tests.worker import cases, signal_cases


@pytest.fixture(scope="module")
def failures() -> dict[str, str]:
    return cases.failures(signal_cases)


@pytest.mark.parametrize("case", cases.names(signal_cases))
def test_under_gevent(failures, case):
    assert case not in failures, failures[case]
