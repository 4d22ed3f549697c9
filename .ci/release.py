"""Sets the version of all packages, and dates what their changelogs have under "Unreleased".

python .ci/release.py 0.4.0            # writes
python .ci/release.py --check 0.4.0    # fails unless all have this version
"""

import re
import sys
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSION = re.compile(r'^(?:__version__|version) = "(.+)"$', re.MULTILINE)
SIBLING = re.compile(r'"(pico-celery-\w+)(==|>=)[^"]+"')
TITLE = "## [Unreleased]\n"


def packages(root: Path) -> list[Path]:
    """Return the folders of the packages."""
    return sorted(path.parent for path in root.glob("packages/*/pyproject.toml"))


def version_files(package: Path) -> list[Path]:
    """Return the files of a package that have its version."""
    found = [package / "pyproject.toml", *package.glob("src/pico_celery_*/__init__.py")]
    return [path for path in found if VERSION.search(path.read_text(encoding="utf-8"))]


def versions(root: Path = ROOT) -> dict[str, str]:
    """Return the version that each file has."""
    files = [path for package in packages(root) for path in version_files(package)]
    matches = {path: VERSION.search(path.read_text(encoding="utf-8")) for path in files}
    return {path.relative_to(root).as_posix(): match[1] for path, match in matches.items() if match}


def release(version: str, root: Path = ROOT) -> None:
    """Write a version into all packages."""
    major, minor, _ = version.split(".")
    bounds = {"==": f"=={version}", ">=": f">={version},<{major}.{int(minor) + 1}"}
    for package in packages(root):
        for path in {*version_files(package), package / "pyproject.toml"}:
            text = VERSION.sub(lambda match: match[0].replace(match[1], version), path.read_text(encoding="utf-8"))
            text = SIBLING.sub(lambda match: f'"{match[1]}{bounds[match[2]]}"', text)
            path.write_text(text, encoding="utf-8")
        changelog = package / "CHANGELOG.md"
        text = changelog.read_text(encoding="utf-8")
        dated = f"{TITLE}\n## [{version}] - {datetime.now(UTC):%Y-%m-%d}\n"
        changelog.write_text(text.replace(TITLE, dated, 1), encoding="utf-8")


if __name__ == "__main__":
    *options, wanted = sys.argv[1:]
    if options == ["--check"]:
        wrong = {path: found for path, found in versions().items() if found != wanted}
        sys.exit(f"Not {wanted}: {wrong}" if wrong else 0)
    release(wanted)
