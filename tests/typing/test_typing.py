"""The types, as mypy and pyright see them in a user's code, both strict, with the settings of docs/how-to/client.md.

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

ROOT = Path(__file__).parent.parent.parent
CASES = Path(__file__).parent / "cases"

# Where a checker sees each file, and where it is.
FILES = {file.name: file for file in sorted(CASES.glob("*.py"))} | {
    str(file.relative_to(ROOT)): file for file in sorted((ROOT / "examples/quickstart").glob("[!_]*.py"))
}

Report = dict[str, dict[int, str]]


def expected(file: Path, checker: str) -> set[int]:
    lines = file.read_text().splitlines()
    endings = ("# expect-error", f"# expect-error ({checker})")
    return {number for number, line in enumerate(lines, 1) if line.endswith(endings)}


def documented(language: str, word: str) -> str:
    """Return the settings that docs/how-to/client.md gives to users."""
    blocks = re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs/how-to/client.md").read_text(), re.DOTALL)
    (block,) = [block for block in blocks if word in block]
    return block


def mypy(folder: Path) -> Report:
    clients = "[mypy-examples.quickstart.client]\ndisable_error_code = empty-body\n"
    (folder / "mypy.ini").write_text(documented("ini", "strict") + clients)
    done = run(
        folder, "mypy", "--no-error-summary", "--no-pretty", "--cache-dir=cache", "--explicit-package-bases", "."
    )
    found = re.findall(r"^([^:\n]+\.py):(\d+): error: (.*)$", done, re.MULTILINE)
    return collect((name, int(line), text) for name, line, text in found)


def pyright(folder: Path) -> Report:
    (folder / "pyrightconfig.json").write_text(documented("json", "strict"))
    done = json.loads(run(folder, "pyright", "--outputjson", "--pythonpath", sys.executable))
    assert done["summary"]["filesAnalyzed"] == len(FILES)
    return collect(
        (str(Path(found["file"]).relative_to(folder)), found["range"]["start"]["line"] + 1, found["message"])
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
    for name, file in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / name)
    return check.__name__, check(folder)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", FILES)
def test_exactly_the_wrong_lines_are_errors(report, name):
    checker, errors = report
    found = errors.get(name, {})
    assert set(found) == expected(FILES[name], checker), found


def test_there_are_right_and_wrong_cases():
    assert {bool(expected(file, "mypy")) for file in FILES.values()} == {True, False}
