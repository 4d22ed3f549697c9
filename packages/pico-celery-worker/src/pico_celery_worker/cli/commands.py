"""`celery -A app pico …`: commands that Celery finds through the entry points of `celery.commands`."""

import json
import sys
from typing import Any, TextIO

import click
from celery.bin.base import CeleryCommand, CLIContext

from pico_celery_core.contract.file import ContractEntry, read_contract
from pico_celery_core.errors import ContractFileError
from pico_celery_core.suggestions import near_miss
from pico_celery_worker.cli import rendering, schedules
from pico_celery_worker.cli.checks import CODES, POOLS, Severity, check, expected_pool
from pico_celery_worker.cli.context import inspected, style
from pico_celery_worker.cli.dead_letters import dead
from pico_celery_worker.cli.dev import dev
from pico_celery_worker.cli.queues import queues_command
from pico_celery_worker.cli.replay import replay
from pico_celery_worker.cli.send import send


@click.group()
def pico() -> None:
    """Look at the tasks of a pico-celery app."""


pico.add_command(schedules.schedules_command)
pico.add_command(dead)
pico.add_command(replay)
pico.add_command(send)
pico.add_command(queues_command)
pico.add_command(dev)


def _known_codes(_context: Any, _option: Any, codes: tuple[str, ...]) -> tuple[str, ...]:
    for code in codes:
        if code not in CODES:
            meant = near_miss(code, CODES)
            hint = f"Did you mean {meant!r}?" if meant else f"There are {', '.join(sorted(CODES))}."
            raise click.BadParameter(f"no finding has the code {code!r}. {hint}")
    return codes


@pico.command("tasks", cls=CeleryCommand)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def tasks_command(context: CLIContext, as_json: bool) -> None:
    """List the tasks, and what their components need."""
    tasks = list(inspected(context.app).tasks())
    if as_json:
        click.echo(json.dumps({"tasks": [rendering.task_data(task) for task in tasks]}, indent=2))
        return
    lines = rendering.Lines.of(sys.stdout.encoding)
    for task in tasks:
        context.echo(rendering.task_text(task, style(context), lines) + "\n")
    context.echo(rendering.count(len(tasks), "task"))


@pico.command("check", cls=CeleryCommand)
@click.option("--pool", type=click.Choice(POOLS), help="The pool of your workers.  [default: worker_pool, or gevent]")
@click.option("--strict", is_flag=True, help="Fail on warnings too.")
@click.option(
    "--ignore",
    multiple=True,
    metavar="CODE",
    callback=_known_codes,
    help="Leave out findings of this code; may be repeated.",
)
@click.option(
    "--contract",
    "contracts",
    multiple=True,
    type=click.File(encoding="utf-8"),
    help="Check against this contract of a client too; may be repeated.",
)
@click.option("--queues", is_flag=True, help="Check the messages too that wait in the queues, without taking them.")
@click.option(
    "--queue-limit",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Read no more messages of each queue in RabbitMQ, which counts that as a delivery.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def check_command(
    context: CLIContext,
    *,
    pool: str | None,
    strict: bool,
    ignore: tuple[str, ...],
    contracts: tuple[TextIO, ...],
    queues: bool,
    queue_limit: int,
    as_json: bool,
) -> None:
    """Report what is wrong or risky. Exits with 1 on errors."""
    inspection = inspected(context.app)
    promises = [stub for file in contracts for stub in _read(file)]
    limit = queue_limit if queues else 0
    findings = [finding for finding in check(inspection, pool or "", promises, limit) if finding.code not in ignore]
    pool = pool or expected_pool(inspection.app.conf)
    errors = sum(finding.severity is Severity.ERROR for finding in findings)
    warnings = sum(finding.severity is Severity.WARNING for finding in findings)
    tasks = len(inspection.handlers)
    if as_json:
        totals = {"pool": pool, "tasks": tasks, "errors": errors, "warnings": warnings}
        click.echo(json.dumps({**totals, "findings": list(map(rendering.finding_data, findings))}, indent=2))
    else:
        for finding in findings:
            context.echo(rendering.finding_text(finding, style(context)) + "\n")
        found = f"{rendering.count(errors, 'error')}, {rendering.count(warnings, 'warning')}"
        context.echo(f"{found} in {rendering.count(tasks, 'task')} for the {pool} pool")
    if errors or (strict and warnings):
        raise click.exceptions.Exit(1)


def _read(file: TextIO) -> list[ContractEntry]:
    try:
        return read_contract(file.read())
    except ContractFileError as error:
        raise click.ClickException(f"{file.name}: {error}") from error
