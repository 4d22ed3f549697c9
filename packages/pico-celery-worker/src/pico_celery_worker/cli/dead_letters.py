"""`celery -A app pico dead …`: finds dead letters, shows them, sends them again and drops them."""

import functools
import json
import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click
from celery.bin.base import CeleryCommand, CLIContext

from pico_celery_core.errors import DeadLetterNotFoundError, NoDeadLettersError
from pico_celery_worker.cli import rendering
from pico_celery_worker.cli.context import inspected, style
from pico_celery_worker.dead_letters import DeadLetter, DeadLetters

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGE: Final = re.compile(rf"(\d+)([{''.join(_UNITS)}])")


def _read_since(_context: Any, _option: Any, value: str | None) -> datetime | timedelta | None:
    """Read an age, such as 30m or 2d, or a time in ISO 8601."""
    if value is None:
        return None
    age = _AGE.fullmatch(value)
    try:
        return timedelta(**{_UNITS[age[2]]: int(age[1])}) if age else datetime.fromisoformat(value)
    except (OverflowError, ValueError):
        raise click.BadParameter(
            f"{value!r} is neither an age, such as 30m, 12h or 2d, nor a time, such as 2026-01-31T12:00"
        ) from None


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command what tells the letters that it is about from the others."""
    options = (
        click.option("--task", metavar="NAME", help="Only those of this task."),
        click.option(
            "--since",
            callback=_read_since,
            metavar="AGE|TIME",
            help="Only those that died since: 30m, 12h, 2d, a time.",
        ),
        click.option("--error", metavar="TEXT", help="Only those whose error or reason has this in it."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    )
    return functools.reduce(lambda decorated, option: option(decorated), reversed(options), command)


@click.group()
def dead() -> None:
    """Look at dead letters, the messages that could not be run, and send them again."""


@dead.command("list", cls=CeleryCommand)
@_filters
@click.option("--limit", default=100, show_default=True, help="Show no more than this.")
@click.pass_obj
def list_command(context: CLIContext, /, *, as_json: bool, limit: int, **filters: Any) -> None:
    """List the dead letters, the newest first."""
    letters = _letters(context)
    with _errors_told():
        found = letters.find(**filters)
    if as_json:
        click.echo(json.dumps({"letters": [_data(letters, letter) for letter in found[:limit]]}, indent=2))
        return
    for letter in found[:limit]:
        context.echo(_line(context, letter))
        context.echo(f"    {_first_line(letters.show(letter).error)}")
    left_out = f", {len(found) - limit} of them not shown" if len(found) > limit else ""
    context.echo(rendering.count(len(found), "dead letter") + left_out)


@dead.command("show", cls=CeleryCommand)
@click.argument("id")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def show_command(context: CLIContext, id: str, as_json: bool) -> None:  # noqa: A002  # as the API calls it
    """Show a dead letter, by its own ID or by that of its task, without what is sensitive."""
    letters = _letters(context)
    with _errors_told():
        letter = letters.get(id)
    data = _data(letters, letter)
    if as_json:
        click.echo(json.dumps(data, indent=2))
        return
    context.echo(_line(context, letter))
    for name in ("reason", "error", "args", "kwargs", "retries", "redelivered", "queue", "exchange", "worker"):
        context.echo(f"  {name.ljust(12)}{data[name]}")
    context.echo(f"  {'body'.ljust(12)}{len(letter.body)} bytes, {letter.content_type}")
    if data["traceback"]:
        context.echo("\n" + data["traceback"].rstrip())


@dead.command("retry", cls=CeleryCommand)
@click.argument("ids", nargs=-1)
@_filters
@click.option("--all", "is_all", is_flag=True, help="All of them.")
@click.pass_obj
def retry_command(context: CLIContext, /, *, ids: tuple[str, ...], as_json: bool, is_all: bool, **filters: Any) -> None:
    """Send dead letters again: the same body and id, to where they were sent, with their counts anew."""
    _take(context, "retry", ids, filters, as_json=as_json, is_all=is_all)


@dead.command("drop", cls=CeleryCommand)
@click.argument("ids", nargs=-1)
@_filters
@click.option("--all", "is_all", is_flag=True, help="All of them.")
@click.pass_obj
def drop_command(context: CLIContext, /, *, ids: tuple[str, ...], as_json: bool, is_all: bool, **filters: Any) -> None:
    """Drop dead letters for good."""
    _take(context, "drop", ids, filters, as_json=as_json, is_all=is_all)


def _take(
    context: CLIContext, method: str, ids: tuple[str, ...], filters: dict[str, Any], *, as_json: bool, is_all: bool
) -> None:
    if not (ids or is_all or any(filters.values())):
        raise click.UsageError("Which ones? Give their IDs, or --task, --since or --error, or --all.")
    letters = _letters(context)
    with _errors_told():
        taken: list[DeadLetter] = getattr(letters, method)(*ids, **filters)
    missing = [id for id in ids if not any(id in (letter.id, letter.task_id) for letter in taken)]  # noqa: A001
    if as_json:
        click.echo(json.dumps({"letters": [_data(letters, letter) for letter in taken]}, indent=2))
    else:
        for letter in taken:
            context.echo(_line(context, letter))
        done = "sent again" if method == "retry" else "dropped"
        context.echo(f"{rendering.count(len(taken), 'dead letter')} {done}")
    if missing:
        raise click.ClickException(str(DeadLetterNotFoundError(missing[0])))


@contextmanager
def _errors_told() -> Generator[None]:
    try:
        yield
    except (NoDeadLettersError, DeadLetterNotFoundError) as error:
        raise click.ClickException(str(error)) from error


def _letters(context: CLIContext) -> DeadLetters:
    return DeadLetters(inspected(context.app).app)


def _line(context: CLIContext, letter: DeadLetter) -> str:
    task = letter.task or "(no task)"
    when = letter.died_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"{letter.id}  {when}  {letter.reason:13} {style(context)(task, bold=True)}[{letter.task_id}]"


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


def _data(letters: DeadLetters, letter: DeadLetter) -> dict[str, Any]:
    """Return a letter as JSON can hold it. Its keys are promised in docs/reference/command-line.md."""
    shown = letters.show(letter)
    return {
        "id": letter.id,
        "task_id": letter.task_id,
        "task": letter.task,
        "reason": letter.reason.value,
        "error": shown.error,
        "traceback": shown.traceback,
        "args": shown.args,
        "kwargs": shown.kwargs,
        "died_at": letter.died_at.isoformat(),
        "retries": letter.retries,
        "redelivered": letter.redelivered,
        "queue": letter.routing_key,
        "exchange": letter.exchange,
        "worker": letter.worker,
    }
