"""The types, as mypy and pyright see them in a user's code, both in strict mode.

A line of a case that ends in `# expect-error` must be an error, and no other line may be. `# expect-error (pyright)` is
for pyright alone: to mypy a TaskResult fits anywhere, as its base class has no types.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

CASES = Path(__file__).parent / "cases"
FILES = sorted(CASES.glob("*.py"))

pytestmark = pytest.mark.thorough

Report = dict[str, dict[int, str]]


def expected(file: Path, checker: str) -> set[int]:
    lines = file.read_text().splitlines()
    endings = ("# expect-error", f"# expect-error ({checker})")
    return {number for number, line in enumerate(lines, 1) if line.endswith(endings)}


def mypy(folder: Path) -> Report:
    (folder / "mypy.ini").write_text("[mypy]\nstrict = true\n[mypy-celery.*]\nignore_missing_imports = true\n")
    done = run(folder, "mypy", "--no-error-summary", "--no-pretty", "--cache-dir=cache", ".")
    found = re.findall(r"^([^/\n]+\.py):(\d+): error: (.*)$", done, re.MULTILINE)
    return collect((name, int(line), text) for name, line, text in found)


def pyright(folder: Path) -> Report:
    settings = {
        "typeCheckingMode": "strict",
        # Celery and pico-ioc have no complete types, and the specification has stubs without annotations.
        "reportMissingTypeStubs": False,
        "reportUnknownMemberType": False,
        "reportUnknownVariableType": False,
        "reportUnknownParameterType": False,
        "reportUntypedClassDecorator": False,
        "reportUntypedFunctionDecorator": False,
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    done = json.loads(run(folder, "pyright", "--outputjson", "--pythonpath", sys.executable))
    assert done["summary"]["filesAnalyzed"] == len(FILES)
    return collect(
        (Path(found["file"]).name, found["range"]["start"]["line"] + 1, found["message"])
        for found in done["generalDiagnostics"]
        if found["severity"] == "error"
    )


def run(folder: Path, checker: str, *arguments: str) -> str:
    command = [sys.executable, "-m", checker, *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


def collect(found: Iterable[tuple[str, int, str]]) -> Report:
    report: Report = {}
    for name, line, text in found:
        report.setdefault(name, {})[line] = text
    return report


@pytest.fixture(scope="module", params=[mypy, pyright], ids=["mypy", "pyright"])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Report]:
    """What a checker says of all cases, in a folder with no other settings than ours."""
    check: Callable[[Path], Report] = request.param
    folder = tmp_path_factory.mktemp(check.__name__)
    for file in FILES:
        shutil.copy(file, folder)
    return check.__name__, check(folder)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_exactly_the_wrong_lines_are_errors(report, file):
    checker, errors = report
    found = errors.get(file.name, {})
    assert set(found) == expected(file, checker), found


def test_there_are_right_and_wrong_cases():
    assert {bool(expected(file, "mypy")) for file in FILES} == {True, False}
