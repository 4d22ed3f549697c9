"""Signals under gevent, in a process of its own that gevent has patched: see `os_signals_cases.py`."""

import pytest

from tests.unit.worker import cases
from tests.unit.worker.lifecycle import os_signals_cases


@pytest.fixture(scope="module")
def failures() -> dict[str, str]:
    return cases.failures(os_signals_cases)


@pytest.mark.parametrize("case", cases.names(os_signals_cases))
def test_under_gevent(failures, case):
    assert case not in failures, failures[case]
