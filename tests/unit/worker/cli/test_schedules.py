"""`celery -A app pico schedules`: what beat sends, and when."""

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import pytest
from celery import Celery
from celery.bin.celery import celery as command
from celery.schedules import solar
from click.testing import CliRunner, Result
from pico_ioc import component

from pico_celery import Sensitive, schedule, task
from pico_celery_worker.cli.schedules import scheduled
from tests.unit.worker.applications import app_of

NOW = datetime(2026, 3, 27, 12, tzinfo=UTC)


@component(scope="prototype")
class Orders:
    @schedule(cron="0 3 * * *", tz="Europe/Madrid", kwargs={"days": 30}, name="nightly")
    @task("orders.purge")
    async def purge(self, days: int) -> None: ...

    @schedule(every=timedelta(minutes=5), kwargs={"key": "s3cret"}, name="often")
    @task("orders.pull")
    async def pull(self, key: Annotated[str, Sensitive]) -> None: ...


@pytest.fixture
def app() -> Celery:
    return app_of(Orders, beat_schedule={"mine": {"task": "orders.purge", "schedule": 60, "args": (3,)}})


def test_each_entry_has_its_next_runs_in_its_zone(app):
    assert list(scheduled(app, NOW)) == [
        {
            "name": "mine",
            "task": "orders.purge",
            "arguments": "3",
            "time": "<freq: 1.00 minute>",
            "next": ["2026-03-27T12:01:00+00:00", "2026-03-27T12:02:00+00:00", "2026-03-27T12:03:00+00:00"],
        },
        {
            "name": "nightly",
            "task": "orders.purge",
            "arguments": "days=30",
            "time": "0 3 * * * Europe/Madrid",
            "next": ["2026-03-28T03:00:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-30T03:00:00+02:00"],
        },
        {
            "name": "often",
            "task": "orders.pull",
            "arguments": "***",
            "time": "every 0:05:00",
            "next": ["2026-03-27T12:05:00+00:00", "2026-03-27T12:10:00+00:00", "2026-03-27T12:15:00+00:00"],
        },
    ]


def test_of_another_kind_of_schedule_the_next_runs_are_not_told():
    times = solar.__new__(solar)
    times.event, times.lat, times.lon = "sunset", 40, 3
    app = app_of(Orders, beat_schedule={"evening": {"task": "orders.purge", "schedule": times, "args": (3,)}})
    assert next(iter(scheduled(app, NOW)))["next"] == []


def run(app: Celery, *arguments: str) -> Result:
    return CliRunner().invoke(command, ["--no-color", "-A", "any", "pico", *arguments], obj=None)


def shown(monkeypatch: pytest.MonkeyPatch, app: Celery, *arguments: str) -> str:
    monkeypatch.setattr("celery.bin.celery.find_app", lambda _: app)
    result = run(app, "schedules", *arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_as_text(app, monkeypatch):
    text = shown(monkeypatch, app)
    assert "nightly\n  task  orders.purge(days=30)\n  time  0 3 * * * Europe/Madrid\n  next  " in text
    assert text.endswith("3 schedules\n")
    assert "s3cret" not in text


def test_as_json(app, monkeypatch):
    entries: Any = json.loads(shown(monkeypatch, app, "--json"))["schedules"]
    assert [entry["name"] for entry in entries] == ["mine", "nightly", "often"]
    assert all(len(entry["next"]) == 3 for entry in entries)
