"""`pico check` of `beat_schedule`, written by hand and beside tasks."""

from typing import Any

from celery.schedules import crontab
from pico_ioc import component

from pico_celery import schedule, task
from pico_celery_worker.cli.checks import Severity, check
from pico_celery_worker.cli.inspection import inspect_app
from tests.unit.worker.applications import app_of


@component(scope="prototype")
class Orders:
    @schedule(cron="30 12 * * *", tz="Europe/Madrid", kwargs={"days": 30})
    @schedule(cron="*/5 * * * *", args=(1,))
    @task("orders.purge")
    async def purge(self, days: int) -> None: ...


def found(*components: type, **entries: Any) -> list[tuple[str, Severity, str]]:
    app = app_of(*components, beat_schedule=entries)
    inspection = inspect_app(app)
    assert inspection
    return [
        (finding.code, finding.severity, finding.problem)
        for finding in check(inspection, "gevent")
        if finding.code.startswith("schedule")
    ]


def test_good_entries():
    assert found(Orders, mine={"task": "orders.purge", "schedule": 60, "args": (3,)}) == []
    assert found(Orders, mine={"task": "celery.backend_cleanup", "schedule": crontab("30", "12")}) == []


def test_arguments_that_do_not_fit():
    ((code, severity, problem),) = found(Orders, mine={"task": "orders.purge", "schedule": 60, "kwargs": {"day": 3}})
    assert (code, severity) == ("schedule", Severity.ERROR)
    assert "Its arguments do not fit: missing a required argument: 'days'" in problem


def test_a_task_that_nobody_has():
    ((code, severity, problem),) = found(Orders, mine={"task": "orders.purg", "schedule": 60})
    assert (code, severity) == ("schedule", Severity.WARNING)
    assert problem == "No handler of 'orders.purg' is in this container."


def test_the_same_twice():
    entry = {"task": "orders.purge", "schedule": 60, "args": (3,)}
    ((code, severity, problem),) = found(Orders, mine=entry, other=dict(entry))
    assert (code, severity) == ("schedule-clash", Severity.WARNING)
    assert "'mine'" in problem


def test_an_hour_that_is_left_out_in_spring():
    @component(scope="prototype")
    class Nightly:
        @schedule(cron="30 2 * * *", tz="Europe/Madrid")
        @task("nightly.run")
        async def run(self) -> None: ...

    ((code, severity, problem),) = found(Nightly)
    assert (code, severity) == ("schedule-time-zone", Severity.WARNING)
    assert problem.startswith("In Europe/Madrid, 02:30 does not come, or comes twice, on ")
