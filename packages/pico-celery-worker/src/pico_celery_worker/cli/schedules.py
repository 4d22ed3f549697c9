"""`celery -A app pico schedules`: what beat sends, and when."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import click
from celery import Celery
from celery.bin.base import CeleryCommand, CLIContext
from celery.schedules import crontab, maybe_schedule
from celery.schedules import schedule as interval

from pico_celery_worker.cli import rendering
from pico_celery_worker.cli.context import inspected, style
from pico_celery_worker.tasks.schedules import next_runs, schedules_of

_RUNS: Final = 3


@click.command("schedules", cls=CeleryCommand)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def schedules_command(context: CLIContext, as_json: bool) -> None:
    """List what beat sends, with the next three runs of each, in its time zone."""
    entries = list(scheduled(inspected(context.app).app, datetime.now(UTC)))
    if as_json:
        click.echo(json.dumps({"schedules": entries}, indent=2))
        return
    bold = style(context)
    for entry in entries:
        rows = {
            "task": [f"{entry['task']}({entry['arguments']})"],
            "time": [entry["time"]],
            "next": entry["next"],
        }
        context.echo(bold(entry["name"], bold=True))
        for label, lines in rows.items():
            for number, line in enumerate(lines):
                context.echo(f"  {label if number == 0 else '':<5} {line}")
        context.echo("")
    context.echo(rendering.count(len(entries), "schedule"))


def scheduled(app: Celery, now: datetime) -> Iterator[dict[str, Any]]:
    """Describe each entry of an app's `beat_schedule`, in the order of their names.

    Args:
        app: The app.
        now: After when its next runs are.
    """
    declared = schedules_of(app)
    for name, entry in sorted(app.conf.beat_schedule.items()):
        times = maybe_schedule(entry["schedule"], entry.get("relative", False), app=app)
        zone = declared[name].zone(app) if name in declared else app.timezone
        # Only for Celery's own kinds of schedules is it known beforehand.
        is_known = isinstance(times, (crontab, interval))
        runs = [run.isoformat(timespec="seconds") for run in next_runs(times, zone, now, _RUNS)] if is_known else []
        args, kwargs = entry.get("args") or (), entry.get("kwargs") or {}
        shown = [*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())]
        task = app.tasks.get(entry["task"])
        if task is not None and getattr(task, "mask", None):
            shown = ["***"] if shown else []
        yield {
            "name": name,
            "task": entry["task"],
            "arguments": ", ".join(shown),
            "time": declared[name].spec.time if name in declared else str(times),
            "next": runs,
        }
