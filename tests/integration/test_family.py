"""pico-fastapi, pico-sqlalchemy, pico-actuator and pico-boot in one application with pico-celery."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.integration.workers import ROOT

FAMILY = ("pico_fastapi", "pico_sqlalchemy", "pico_actuator", "pico_boot", "aiosqlite")


@pytest.mark.timeout(420)
@pytest.mark.skipif(not all(map(find_spec, FAMILY)), reason="a package of the family is not installed")
def test_the_family_works_together(tmp_path: Path) -> None:
    """A controller sends a task, whose handler uses a repository within a transaction; health is told."""
    command = [sys.executable, "-m", "tests.integration.apps.family", tmp_path / "family.db"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [{"taken": True}, {"taken": False}, "UP"]
