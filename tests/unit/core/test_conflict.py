"""The older distribution pico-celery brings the same import name: a mixture is explained at import."""

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pico_celery
from pico_celery_core._conflict import refuse_clash

FRONT_DOOR = Path(pico_celery.__file__).parent
EXPLANATION = "pip uninstall pico-celery pico-celery-core && pip install pico-celery-client pico-celery-worker"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the front door, to be found before the real one."""
    shutil.copytree(FRONT_DOOR, tmp_path / "pico_celery", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "pico_celery"


def import_beside(copy: Path, statement: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.path.insert(0, {str(copy.parent)!r}); {statement}"
    # The copy shall not count as covered.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
    return subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=environment)


def test_our_own_front_door_is_fine():
    refuse_clash()


def test_a_package_that_is_not_there_is_fine():
    refuse_clash("pico_celery_not_there")


def test_a_clean_copy_is_fine(copy):
    assert import_beside(copy, "import pico_celery; print(pico_celery.__file__)").stdout.startswith(str(copy))


@pytest.mark.parametrize("package", ["pico_celery", "pico_celery_core", "pico_celery_client", "pico_celery_worker"])
def test_a_foreign_module_beside_our_init_is_explained(copy, package):
    """Ours was installed last."""
    copy.joinpath("_version.py").touch()
    done = import_beside(copy, f"import {package}")
    assert done.returncode == 1
    assert "ImportError: The distribution pico-celery was installed beside pico-celery-core" in done.stderr
    assert EXPLANATION in done.stderr


@pytest.mark.parametrize("package", ["pico_celery_core", "pico_celery_client", "pico_celery_worker"])
def test_a_foreign_init_is_explained(copy, package):
    """The other was installed last."""
    copy.joinpath("__init__.py").write_text('"""Async-first Celery integration for pico-ioc."""\n')
    assert EXPLANATION in import_beside(copy, f"import {package}").stderr


def test_a_front_door_without_init_is_explained(monkeypatch, tmp_path):
    """The other was installed last, and uninstalled since."""
    tmp_path.joinpath("torn_front_door").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    with pytest.raises(ImportError, match="uninstall both"):
        refuse_clash("torn_front_door")
