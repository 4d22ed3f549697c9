"""`celery -A app pico send TASK …`: sends a task, with arguments by the signature of its handler."""

import inspect
import json
from typing import Any

import click
from celery.bin.base import CeleryCommand, CLIContext
from celery.exceptions import TimeoutError as CeleryTimeoutError
from kombu.exceptions import OperationalError

from pico_celery_core.contract.signatures import message_signature
from pico_celery_core.suggestions import near_miss
from pico_celery_worker.cli.arguments import ArgumentsError, described, parsed
from pico_celery_worker.cli.context import inspected
from pico_celery_worker.cli.inspection import Inspection
from pico_celery_worker.container.handlers import Handler


@click.command(
    "send",
    cls=CeleryCommand,
    add_help_option=False,
    context_settings={"ignore_unknown_options": True},
    options_metavar="[OPTIONS]",
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="TASK [ARGUMENT | --PARAMETER VALUE]...")
@click.option("--wait", "is_waiting", is_flag=True, help="Wait for the task's value, and print it.")
@click.option("--timeout", type=float, metavar="SECONDS", help="Wait no longer than this; for --wait.")
@click.option("--queue", metavar="NAME", help="Send it to this queue, and not to that of the task.")
@click.option("--help", "needs_help", is_flag=True, help="Show this message; behind a task, its parameters.")
@click.pass_context
def send(
    context: click.Context,
    *,
    words: tuple[str, ...],
    is_waiting: bool,
    timeout: float | None,
    queue: str | None,
    needs_help: bool,
) -> None:
    """Send a task.

    Its arguments are read by the signature of its handler: by position, or by name as --email ada@shop.example. What is
    not text is written as JSON. Where a parameter is called as an option here, give it by position. With --wait it
    exits with 1 if the task fails.
    """
    celery: CLIContext = context.obj
    if not words:
        if needs_help:
            celery.echo(context.get_help())
            return
        raise click.UsageError("Which task? `celery pico tasks` lists them.")
    inspection = inspected(celery.app)
    handler = _handler(inspection, words[0])
    signature = message_signature(handler.function, bound=bool(handler.spec.options.get("bind")))
    if needs_help:
        _show(celery, handler, signature)
        return
    try:
        args, kwargs = parsed(signature, words[1:])
    except ArgumentsError as error:
        raise click.UsageError(f"{handler.spec.name}: {error}.") from None
    task = inspection.app.tasks[handler.spec.name]
    options = {"queue": queue} if queue else {}
    try:
        result = task.apply_async(args, kwargs, **options)
    except OperationalError as error:
        broker = inspection.app.connection_for_write().as_uri()
        raise click.ClickException(f"{handler.spec.name} was not sent to {broker}: {error}") from error
    celery.echo(f"{handler.spec.name}[{result.id}] sent")
    if is_waiting:
        _wait(celery, handler.spec.name, result, timeout)


def _wait(celery: CLIContext, task: str, result: Any, timeout: float | None) -> None:
    try:
        value = result.get(timeout=timeout)
    except CeleryTimeoutError:
        raise click.ClickException(f"{task}[{result.id}] has not ended within {timeout:g} s. It goes on.") from None
    except NotImplementedError as error:  # the app has no result backend
        raise click.ClickException(f"{task}[{result.id}] cannot be waited for: {error}") from None
    except Exception as error:
        raise click.ClickException(f"{task}[{result.id}] failed: {type(error).__name__}: {error}") from error
    try:
        celery.echo(json.dumps(value, indent=2, ensure_ascii=False))
    except TypeError:
        celery.echo(repr(value))


def _handler(inspection: Inspection, name: str) -> Handler:
    handlers = {handler.spec.name: handler for handler in inspection.handlers}
    if name in handlers:
        return handlers[name]
    meant = near_miss(name, handlers)
    hint = f"Did you mean {meant!r}?" if meant else f"There are: {', '.join(handlers) or 'none'}."
    raise click.UsageError(f"No handler here has the task {name!r}. {hint}")


def _show(celery: CLIContext, handler: Handler, signature: inspect.Signature) -> None:
    celery.echo(handler.spec.name)
    summary = next(iter((inspect.getdoc(handler.function) or "").splitlines()), "")
    if summary:
        celery.echo(f"  {summary}")
    rows = list(described(signature))
    width = max((len(typed) for typed, _ in rows), default=0)
    for typed, told in rows:
        celery.echo(f"  {typed:<{width}}  {told}".rstrip())
