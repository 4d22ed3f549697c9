"""Fails on modules that have grown too long to be read at once: a long one is two that have not been told apart."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMITS = {"packages/*/src/**/*.py": 500, "examples/**/*.py": 250, "tests/**/*.py": 1200}
"""How many lines a file may have, by where it stands."""


def too_long() -> list[str]:
    """Return a line for each file that is longer than it may be."""
    found = []
    for pattern, limit in LIMITS.items():
        for path in sorted(ROOT.glob(pattern)):
            lines = len(path.read_text(encoding="utf-8").splitlines())
            if lines > limit:
                found.append(f"{path.relative_to(ROOT)}: {lines} lines, and {limit} are allowed here")
    return found


if __name__ == "__main__":
    sys.exit("\n".join(too_long()) or 0)
