"""The unit tests mirror the source: each file of them names the module that it tests."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
UNIT = ROOT / "tests" / "unit"
FILES = sorted(UNIT.glob("*/**/test_*.py"))


def modules_of(file: Path) -> set[str]:
    """Return the modules, or the package, that a test may be of: `test_job.py`, `test_job_fuzz.py` of `job.py`."""
    name = file.relative_to(UNIT).parts[0]
    folder = ROOT / f"packages/pico-celery-{name}/src/pico_celery_{name}" / file.parent.relative_to(UNIT / name)
    modules = {path.stem.strip("_") for path in folder.glob("*.py")} | {folder.name}
    about = file.stem.removeprefix("test_")
    return {module for module in modules if about == module or about.startswith(f"{module}_")}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(UNIT).as_posix())
def test_a_unit_test_stands_where_its_module_does(file):
    assert modules_of(file)
