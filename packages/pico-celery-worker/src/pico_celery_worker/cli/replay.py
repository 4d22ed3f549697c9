"""`celery -A app pico replay`: runs a dead letter in this process."""

import importlib
import pdb
import runpy
import traceback as tracebacks
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from typing import Any, Final

import click
from celery import signals
from celery.bin.base import CeleryCommand, CLIContext
from pico_ioc import PicoContainer

from pico_celery_core.errors import DeadLetterNotFoundError, NoDeadLettersError
from pico_celery_worker.cli.context import inspected
from pico_celery_worker.dead_letters import DeadLetters
from pico_celery_worker.dead_letters.masking import message_of
from pico_celery_worker.testing import TaskRunner

# For how long the task may run, in seconds: somebody watches it.
_LONGEST: Final = 86_400


@click.command("replay", cls=CeleryCommand)
@click.argument("id")
@click.option(
    "--container",
    "factory",
    metavar="MODULE:FUNCTION",
    help="Run it in the container that this function returns, and not in the app's own; FILE.py:FUNCTION does as well.",
)
@click.option(
    "--override",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Call that function with overrides={KEY: VALUE}, each as MODULE:NAME; may be repeated.",
)
@click.option("--pdb", "has_debugger", is_flag=True, help="Open the debugger where the task fails.")
@click.pass_obj
def replay(
    context: CLIContext,
    /,
    *,
    id: str,  # noqa: A002  # as the API calls it
    factory: str | None,
    overrides: tuple[str, ...],
    has_debugger: bool,
) -> None:
    """Run a dead letter in this process, by its own ID or by that of its task, and leave the letter where it is.

    The task does all that it does in a worker, but for what the container of --container overrides. What it sends runs
    in this process too. Exits with 1 if the task fails.
    """
    inspection = inspected(context.app)
    container = inspection.container if factory is None else _made(factory, overrides)
    if factory is None and overrides:
        raise click.UsageError("--override needs --container MODULE:FUNCTION, a function that makes a container.")
    try:
        letter = DeadLetters(inspection.app).get(id)
    except (NoDeadLettersError, DeadLetterNotFoundError) as error:
        raise click.ClickException(str(error)) from error
    if not (letter.task and letter.task_id and "task" in letter.headers):
        raise click.ClickException(f"Dead letter {letter.id} is no message of a task, and cannot be run.")
    debugger = _debugger() if has_debugger else nullcontext()
    with TaskRunner(container, timeout=_LONGEST) as runner, debugger:
        try:
            value = runner.deliver(message_of(runner.app, letter.anew())).get(timeout=_LONGEST)
        except Exception as error:  # noqa: BLE001  # whatever the task raises
            context.error("".join(tracebacks.format_exception(error)))
            raise click.exceptions.Exit(1) from None
    context.echo(f"{letter.task}[{letter.task_id}] returned {value!r}")


def _made(factory: str, overrides: tuple[str, ...]) -> PicoContainer:
    """Return the container that a function makes, with overrides if there are some."""
    given: dict[Any, Any] = {}
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise click.UsageError(f"--override {override}: write it as MODULE:KEY=MODULE:VALUE.")
        given[_named(key)] = _named(value)
    make = _named(factory)
    container = make(overrides=given) if given else make()
    if not isinstance(container, PicoContainer):
        raise click.UsageError(f"--container {factory} returns a {type(container).__name__}, and not a container.")
    return container


def _named(name: str) -> Any:
    """Return what stands in a module, or in a file, under a name."""
    module, colon, attribute = name.rpartition(":")
    if not colon:
        raise click.UsageError(f"{name!r} names no module: write it as MODULE:NAME or FILE.py:NAME.")
    try:
        names = runpy.run_path(module) if module.endswith(".py") else vars(importlib.import_module(module))
        return names[attribute]
    except (ImportError, OSError) as error:
        raise click.UsageError(f"{module} cannot be imported: {error}") from error
    except KeyError:
        raise click.UsageError(f"There is no {attribute!r} in {module}.") from None


@contextmanager
def _debugger() -> Generator[None]:
    """Open the debugger wherever a task fails in the block, in its frames."""

    def debug(exception: BaseException, **_: Any) -> None:
        pdb.post_mortem(exception.__traceback__)

    signals.task_failure.connect(debug, weak=False)
    try:
        yield
    finally:
        signals.task_failure.disconnect(debug)
