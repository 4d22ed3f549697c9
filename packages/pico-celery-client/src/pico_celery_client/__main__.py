"""`python -m pico_celery_client contract shop.clients`: write down what the clients of a module send."""

import argparse
import inspect
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from pico_celery_client.stub import untyped_stubs
from pico_celery_core.contract.file import write_contract
from pico_celery_core.metadata import stubs


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m pico_celery_client", description="Tools for senders of tasks.")
    commands = parser.add_subparsers(dest="command", required=True)
    contract = commands.add_parser(
        "contract",
        help="write the contract of the clients in some modules",
        description="Write the contract of the clients in some modules as JSON, for `celery pico check --contract`.",
    )
    contract.add_argument("modules", nargs="+", metavar="MODULE", help="such as shop.clients")
    contract.add_argument("-o", "--output", type=Path, help="the file to write; without it, the standard output")
    options = parser.parse_args(arguments)

    sys.path.insert(0, str(Path.cwd()))
    try:
        clients = [cls for name in options.modules for cls in _clients(name)]
    except _ModuleError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    if not clients:
        parser.error(f"no class with @send_task methods in {', '.join(options.modules)}")
    text = write_contract(dict.fromkeys(clients))
    for client in dict.fromkeys(clients):
        for where, untyped in untyped_stubs(client, typed=True):
            sys.stderr.write(f"{where}: {untyped}\n")
    if options.output is None:
        sys.stdout.write(text)
    else:
        options.output.write_text(text, encoding="utf-8")
    return 0


class _ModuleError(Exception):
    """A module cannot be imported."""

    def __init__(self, module: str, problem: str) -> None:
        super().__init__(f"cannot import {module}: {problem}")


def _clients(module: str) -> list[type]:
    try:
        members = vars(import_module(module)).values()
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise _ModuleError(module, f"it imports {error.name!r}, which is not installed") from error
        problem = "there is no such module here. Run this in the folder from which the application imports it"
        raise _ModuleError(module, problem) from error
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{frame.filename}, line {frame.lineno}"
        raise _ModuleError(module, f"it raises {type(error).__name__} in {where}: {error}") from error
    return [cls for cls in members if inspect.isclass(cls) and any(stubs(cls))]


if __name__ == "__main__":
    sys.exit(main())
