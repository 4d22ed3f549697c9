"""`python -m pico_celery_client contract shop.clients`: write down what the clients of a module send."""

import argparse
import inspect
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

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
    clients = [cls for name in options.modules for cls in _clients(name)]
    if not clients:
        parser.error(f"no class with @send_task methods in {', '.join(options.modules)}")
    text = write_contract(dict.fromkeys(clients))
    if options.output is None:
        sys.stdout.write(text)
    else:
        options.output.write_text(text, encoding="utf-8")
    return 0


def _clients(module: str) -> list[type]:
    members = vars(import_module(module)).values()
    return [cls for cls in members if inspect.isclass(cls) and any(stubs(cls))]


if __name__ == "__main__":
    sys.exit(main())
