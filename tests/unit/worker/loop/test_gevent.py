"""The gevent host, in a process of its own that gevent has patched: see `gevent_cases.py`."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.worker.loop import gevent_cases

ROOT = Path(__file__).parents[4]

CASES = [
    name
    for name, value in inspect.getmembers(gevent_cases, inspect.isfunction)
    if value.__module__ == gevent_cases.__name__ and not name.startswith("_")
]


@pytest.fixture(scope="module")
def failures() -> dict[str, str]:
    """Run all cases, and return the traceback of each that fails."""
    command = [sys.executable, "-W", "error", "-m", "tests.unit.worker.loop.patched", gevent_cases.__name__]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert process.returncode == 0, process.stderr
    assert "never awaited" not in process.stderr
    assert "Traceback" not in process.stderr, process.stderr
    found: dict[str, str] = json.loads(process.stdout)
    return found


@pytest.mark.parametrize("case", CASES)
def test_under_gevent(failures, case):
    assert case not in failures, failures[case]
