"""Checks of `beat_schedule`: of `@schedule`, which is checked at start as well, and of what is written by hand."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from celery.schedules import crontab, maybe_schedule

from pico_celery_core.contract.signatures import bind, message_signature
from pico_celery_core.suggestions import near_miss
from pico_celery_worker.cli.checks.finding import Finding, Severity
from pico_celery_worker.cli.inspection import Inspection
from pico_celery_worker.container.handlers import Handler
from pico_celery_worker.tasks.schedules import schedules_of

_YEAR = 366


def check(inspection: Inspection) -> Iterator[Finding]:
    """Look at all entries."""
    app = inspection.app
    handlers = {handler.spec.name: handler for handler in inspection.handlers}
    declared = schedules_of(app)
    seen: dict[str, str] = {}
    for name, entry in sorted(app.conf.beat_schedule.items()):
        where = f"beat_schedule, {name!r}"
        task = entry["task"]
        if task in handlers:
            yield from _arguments(where, entry, handlers[task])
        elif task not in app.tasks:
            near = near_miss(task, app.tasks)
            hint = f"Did you mean {near!r}?" if near else "Check the task's name, unless another worker handles it."
            problem = f"No handler of {task!r} is in this container."
            yield Finding("schedule", Severity.WARNING, where, problem, hint)
        times = maybe_schedule(entry["schedule"], app=app)
        what = repr((task, list(entry.get("args") or ()), dict(entry.get("kwargs") or {}), times))
        if what in seen:
            problem = f"It sends the same task at the same times with the same arguments as {seen[what]!r}."
            yield Finding("schedule-clash", Severity.WARNING, where, problem, "Remove one of the two.")
        seen.setdefault(what, name)
        if isinstance(times, crontab):
            zone = declared[name].zone(app) if name in declared else app.timezone
            yield from _changes_of_the_clock(where, getattr(times, "inner", times), zone)


def _arguments(where: str, entry: dict[str, Any], handler: Handler) -> Iterator[Finding]:
    signature = message_signature(handler.function, bound=bool(handler.spec.options.get("bind")))
    try:
        bind(signature, tuple(entry.get("args") or ()), entry.get("kwargs") or {})
    except TypeError as error:
        problem = f"Its arguments do not fit: {error}. The handler is {handler}{signature}."
        yield Finding("schedule", Severity.ERROR, where, problem, "Give it what the handler takes.")


def _changes_of_the_clock(where: str, times: Any, zone: Any) -> Iterator[Finding]:
    """Tell where a time of day does not come, or comes twice, on the days on which the clocks are changed."""
    if len(times.hour) > 1:  # one run in the midst of many is not missed
        return
    (hour,) = times.hour
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    for number in range(_YEAR):
        local = (today + timedelta(days=number)).replace(hour=hour, minute=min(times.minute), tzinfo=zone)
        if local.utcoffset() != local.replace(fold=1).utcoffset():
            day = f"on {local:%Y-%m-%d}, when the clocks are changed"
            problem = f"In {zone}, {local:%H:%M} does not come, or comes twice, {day}."
            hint = "Choose an hour outside of that, or let the handler bear a run at another hour."
            yield Finding("schedule-time-zone", Severity.WARNING, where, problem, hint)
            return
