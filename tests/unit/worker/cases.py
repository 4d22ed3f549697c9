"""Runs the cases of a module in a process of its own that gevent has patched. See `patched.py`."""

import inspect
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[3]


def names(module: ModuleType) -> list[str]:
    """Return the names of a module's cases: its own public functions."""
    functions = inspect.getmembers(module, inspect.isfunction)
    return [name for name, value in functions if value.__module__ == module.__name__ and not name.startswith("_")]


def failures(module: ModuleType) -> dict[str, str]:
    """Run all cases, and return the traceback of each that fails."""
    command = [sys.executable, "-W", "error", "-m", "tests.unit.worker.patched", module.__name__]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert process.returncode == 0, process.stderr
    assert "never awaited" not in process.stderr, process.stderr
    assert "Traceback" not in process.stderr, process.stderr
    found: dict[str, str] = json.loads(process.stdout)
    return found
