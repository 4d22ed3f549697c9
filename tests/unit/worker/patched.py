"""Runs every case of a module in a process that gevent has patched first, and writes what became of each as JSON.

For subprocesses: `python -m tests.unit.worker.patched <module>`.
"""

from gevent import monkey

monkey.patch_all()

import importlib  # noqa: E402
import inspect  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
import traceback  # noqa: E402
from types import ModuleType  # noqa: E402

import gevent  # noqa: E402

TIMEOUT = 15


def cases(module: ModuleType) -> list[str]:
    """Return the names of a module's own public functions."""
    functions = inspect.getmembers(module, inspect.isfunction)
    return [name for name, value in functions if value.__module__ == module.__name__ and not name.startswith("_")]


def main(name: str) -> None:
    module = importlib.import_module(name)
    failures = {}
    for case in cases(module):
        try:
            with gevent.Timeout(TIMEOUT):
                getattr(module, case)()
        except BaseException:  # noqa: BLE001  # gevent's Timeout is one
            failures[case] = traceback.format_exc()
    sys.stdout.write(json.dumps(failures))


if __name__ == "__main__":
    main(sys.argv[1])
