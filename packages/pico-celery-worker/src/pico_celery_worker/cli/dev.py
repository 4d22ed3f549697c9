"""`celery -A app pico dev`: a worker for development, which starts anew when the code changes."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import click
from celery.bin.base import CeleryCommand, CLIContext

from pico_celery_worker.cli.checks import POOLS

# What `celery pico check` returns where the app cannot be loaded.
_NOT_LOADED: Final = 2

Changes = Iterable[set[tuple[Any, str]]]


@click.command("dev", cls=CeleryCommand, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[WORKER OPTIONS]...")
@click.option(
    "--watch",
    "paths",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Look at the Python files in this folder, and not in the current one; may be repeated.",
)
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=10,
    show_default=True,
    help="For how many seconds tasks may go on when the worker starts anew.",
)
@click.pass_context
def dev(context: click.Context, *, arguments: tuple[str, ...], paths: tuple[Path, ...], grace: float) -> None:
    """Run a worker, show what `celery pico check` finds, and start the worker anew when the code changes.

    A worker that is replaced ends its tasks first. While the code has an error, the last worker that could start goes
    on. All other options are those of `celery worker`; without -P the pool is gevent.
    """
    celery: CLIContext = context.obj
    try:
        watchfiles = import_module("watchfiles")
    except ImportError:
        raise click.ClickException("watchfiles is not installed: pip install pico-celery-worker[dev]") from None
    before = _before_the_command(sys.argv)
    pool = _pool(arguments)
    worker = arguments if pool else ("-P", "gevent", *arguments)
    pool = pool or "gevent"
    check = ("pico", "check", *(("--pool", pool) if pool in POOLS else ()))
    changes = watchfiles.watch(*(paths or (Path.cwd(),)), watch_filter=watchfiles.PythonFilter())
    reloader = Reloader((*before, "worker", *worker), (*before, *check), grace, celery.echo)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        reloader.run(changes)
    except KeyboardInterrupt:
        reloader.stop()


class Reloader:
    """Runs a worker, and replaces it when the code changes.

    Args:
        worker: The arguments of `celery` that run the worker.
        check: The arguments of `celery` that check the app.
        grace: For how long the worker's tasks may go on when it is to end, in seconds.
        tell: Prints a line.
    """

    def __init__(self, worker: Sequence[str], check: Sequence[str], grace: float, tell: Callable[[str], Any]) -> None:
        self._worker = worker
        self._check = check
        self._grace = grace
        self._tell = tell
        self.process: subprocess.Popen[bytes] | None = None
        """The worker that runs."""

    def run(self, changes: Changes) -> None:
        """Start a worker, and one in its place for each change, until there are no more.

        Args:
            changes: Sets of what has changed, and the paths of these files, as `watchfiles.watch` yields them.
        """
        self.restart()
        for changed in changes:
            names = sorted({os.path.relpath(path) for _, path in changed})
            self._tell(f"Changed: {', '.join(names)}")
            self.restart()
        self.stop()

    def restart(self) -> None:
        """Check the app, and replace the worker if the app can be loaded."""
        checked = subprocess.run(_celery(self._check), check=False).returncode  # noqa: S603
        if checked == _NOT_LOADED:
            goes_on = "The last worker goes on." if self._is_running() else "There is no worker."
            self._tell(f"The app cannot be loaded. {goes_on}")
            return
        self.stop()
        self.process = subprocess.Popen(_celery(self._worker))  # noqa: S603

    def stop(self) -> None:
        """End the worker: softly first, then without waiting for its tasks, then at once."""
        if self.process is None:
            return
        for number in (signal.SIGTERM, signal.SIGQUIT):
            if self.process.poll() is None:
                self.process.send_signal(number)
            try:
                self.process.wait(self._grace)
            except subprocess.TimeoutExpired:
                self._tell(f"The worker has not ended within {self._grace:g} s after {number.name}.")
            else:
                break
        else:
            self.process.kill()
            self.process.wait()
        self.process = None

    def _is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None


def _celery(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "celery", *arguments]


def _before_the_command(words: Sequence[str]) -> list[str]:
    """Return what was typed between `celery` and `pico dev`: the app, and other options of `celery` itself."""
    end = next((at for at in range(len(words)) if list(words[at : at + 2]) == ["pico", "dev"]), len(words))
    return list(words[1:end])


def _pool(arguments: Sequence[str]) -> str:
    """Return the pool that a worker's options name; empty if they name none."""
    for option, value in zip(arguments, (*arguments[1:], ""), strict=True):
        if option in ("-P", "--pool"):
            return value
        if option.startswith(("-P", "--pool=")):
            return option.removeprefix("-P").removeprefix("--pool=")
    return ""


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt
