"""Schedules beside tasks: the entries in `beat_schedule`, and the runs that beat and redbeat send of them."""

import json
import pickle
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery.beat import Scheduler
from celery.schedules import crontab
from hypothesis import given, settings
from hypothesis import strategies as st
from pico_ioc import component
from redbeat.decoder import RedBeatJSONDecoder, RedBeatJSONEncoder

from pico_celery import schedule, task
from pico_celery_core.errors import OptionValueError, ScheduleError
from pico_celery_core.metadata import TaskSpec
from pico_celery_core.schedules import ScheduleSpec
from pico_celery_worker.container.handlers import Handler
from pico_celery_worker.tasks.schedules import (
    SCHEDULE_OPTION,
    Schedule,
    ZonedCrontab,
    complete,
    crontab_of,
    next_runs,
    schedules_of,
)
from tests.unit.worker.applications import app_of, application

NIGHTLY = "orders.purge 0 3 * * * Europe/Madrid"
MADRID = ZoneInfo("Europe/Madrid")


@component(scope="prototype")
class Orders:
    @schedule(cron="0 3 * * *", tz="Europe/Madrid", kwargs={"days": 30}, expires="next")
    @schedule(every=timedelta(minutes=5), args=[1], name="often", jitter=20, expires=60, queue="slow")
    @task("orders.purge")
    async def purge(self, days: int, deep: bool = False) -> None: ...

    @schedule(cron="*/10 * * * 1-5", expires="next")
    @task("orders.count", bind=True)
    async def count(self, task: Any) -> None: ...


@pytest.fixture
def app() -> Celery:
    return app_of(Orders, broker_url="memory://")


def fields(entry: Any) -> tuple[Any, ...]:
    return entry["task"], entry["args"], entry["kwargs"], entry["options"]


# Entries


def test_entries_are_in_celerys_beat_schedule(app):
    entries = app.conf.beat_schedule
    assert {name: fields(entry) for name, entry in entries.items()} == {
        NIGHTLY: ("orders.purge", (), {"days": 30}, {SCHEDULE_OPTION: NIGHTLY}),
        "often": ("orders.purge", (1,), {}, {SCHEDULE_OPTION: "often", "expires": 60, "queue": "slow"}),
        "orders.count */10 * * * 1-5": ("orders.count", (), {}, {SCHEDULE_OPTION: "orders.count */10 * * * 1-5"}),
    }
    assert entries["often"]["schedule"].run_every == timedelta(minutes=5)


def test_they_leave_the_app_as_it_is_and_stand_beside_others():
    app = app_of(Orders, beat_schedule={"mine": {"task": "orders.count", "schedule": 5}})
    called = []
    app.on_after_configure.connect(lambda **_: called.append("configure"), weak=False)
    app.on_after_finalize.connect(lambda **_: called.append("finalize"), weak=False)
    assert not app.configured
    assert not app.finalized
    app.add_periodic_task(30, app.signature("orders.count"), name="added")
    assert {"mine", "added", "often"} <= set(app.conf.beat_schedule)
    app.finalize()
    assert called == ["configure", "finalize"]


def test_an_app_of_the_users_own_has_them_when_its_settings_are_read():
    own = Celery("own", set_as_current=False)
    application(Orders, overrides={Celery: own})
    assert not own.configured
    own.config_from_object({"pico_schedules": {"often": False}, "broker_url": "memory://"})
    assert set(own.conf.beat_schedule) == {NIGHTLY, "orders.count */10 * * * 1-5"}


def test_a_wrong_setting_of_such_an_app_is_told(caplog):
    own = Celery("own", set_as_current=False)
    application(Orders, overrides={Celery: own})
    own.config_from_object({"pico_schedules": {"oftn": False}, "broker_url": "memory://"})
    assert own.conf.beat_schedule == {}
    assert "No task is scheduled" in caplog.text
    assert "Did you mean 'often'" in caplog.text


def test_no_component_is_made_for_them():
    made = []

    @component(scope="prototype")
    class Counted:
        def __init__(self) -> None:
            made.append(self)

        @schedule(every=5)
        @task("counted.run")
        async def run(self) -> None: ...

    app = app_of(Counted, broker_url="memory://")
    assert len(app.conf.beat_schedule) == 1
    assert Scheduler(app).schedule
    assert made == []


@pytest.mark.parametrize(
    "values",
    [
        {"every": 5},
        {"every": 5, "args": (1, 2, 3)},
        {"every": 5, "kwargs": {"day": 1}},
        {"every": 5, "kwargs": {"days": object()}},
        {"every": 5, "args": (1,), "headers": {"it": object()}},
        {"cron": "61 * * * *", "args": (1,)},
        {"cron": "0 0 30 2 *", "args": (1,)},
        {"cron": "a b c d e", "args": (1,)},
    ],
)
def test_what_does_not_fit_is_refused_at_start(values):
    @component(scope="prototype")
    class Wrong:
        @schedule(**values)
        @task("orders.purge")
        async def purge(self, days: int, deep: bool = False) -> None: ...

    with pytest.raises(Exception, match=r"@schedule of .*Wrong\.purge") as caught:
        app_of(Wrong)
    assert isinstance(caught.value, ScheduleError)


def test_two_entries_of_one_name_are_refused():
    @component(scope="prototype")
    class Twice:
        @schedule(every=5, args=(1,))
        @schedule(every=5, args=(2,))
        @task("orders.purge")
        async def purge(self, days: int) -> None: ...

    with pytest.raises(Exception, match="give one another name"):
        app_of(Twice)


# Configuration


def configured(changes: Any) -> Celery:
    return app_of(Orders, broker_url="memory://", pico_schedules=changes)


def test_configuration_switches_off_and_changes():
    app = configured({"often": {"every": 60, "kwargs": {"deep": True}, "jitter": 0}, "orders.count": False})
    assert set(app.conf.beat_schedule) == {NIGHTLY, "often"}
    entry = app.conf.beat_schedule["often"]
    assert entry["schedule"].run_every == timedelta(minutes=1)
    assert entry["kwargs"] == {"deep": True}
    assert schedules_of(app)["often"].spec.jitter == 0


def test_the_name_of_a_task_means_all_its_schedules():
    assert set(configured({"orders.purge": False}).conf.beat_schedule) == {"orders.count */10 * * * 1-5"}
    assert len(configured({"orders.purge": True}).conf.beat_schedule) == 3


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"oftn": False}, "Did you mean 'often'"),
        ({"zzzzzz": False}, "There are"),
        ({"often": {"evry": 5}}, "a mapping of some of cron, every"),
        ({"often": {"every": -5}}, "every"),
        ({"often": 5}, "Give False"),
        ({"often": {"kwargs": {"day": 5}}}, "unexpected keyword argument 'day'"),
        (["often"], "Give a mapping"),
    ],
)
def test_a_wrong_setting_is_refused_at_start(changes, told):
    with pytest.raises(Exception, match=told) as caught:
        configured(changes)
    assert isinstance(caught.value, (OptionValueError, ScheduleError))


# Times


def runs(times: Any, zone: Any, now: datetime, number: int = 3) -> list[str]:
    return [run.isoformat() for run in next_runs(times, zone, now, number)]


def test_a_time_of_day_is_that_of_its_zone_in_winter_and_summer(app):
    entry = schedules_of(app)[NIGHTLY]
    assert runs(entry.times(app), entry.zone(app), datetime(2026, 3, 27, 12, tzinfo=UTC)) == [
        "2026-03-28T03:00:00+01:00",
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T03:00:00+02:00",
    ]
    assert runs(entry.times(app), entry.zone(app), datetime(2026, 10, 24, 12, tzinfo=UTC), 2) == [
        "2026-10-25T03:00:00+01:00",
        "2026-10-26T03:00:00+01:00",
    ]


def test_without_a_zone_it_is_the_apps():
    app = app_of(Orders, broker_url="memory://", timezone="Asia/Tokyo")
    entry = schedules_of(app)["orders.count */10 * * * 1-5"]
    assert runs(entry.times(app), entry.zone(app), datetime(2026, 5, 1, 14, 55, tzinfo=UTC), 2) == [
        "2026-05-04T00:00:00+09:00",
        "2026-05-04T00:10:00+09:00",
    ]


def test_a_zoned_crontab_survives_beats_file(app):
    times = ZonedCrontab("0 3 * * *", "Europe/Madrid", app)
    again = pickle.loads(pickle.dumps(times))
    assert (again, repr(again)) == (times, "<crontab: 0 3 * * * Europe/Madrid>")
    assert again != ZonedCrontab("0 3 * * *", "Europe/Paris")
    assert again != crontab_of("0 3 * * *")
    again.app = app
    now = datetime(2026, 5, 1, 12, tzinfo=UTC)
    assert runs(again, MADRID, now) == runs(times, MADRID, now)


def test_an_unknown_attribute_of_it_is_an_ordinary_error():
    with pytest.raises(AttributeError):
        _ = ZonedCrontab("0 3 * * *", "Europe/Madrid").nothing


# What beat sends, by a clock of the test's


class Clock:
    def __init__(self, now: datetime) -> None:
        self.now = now


@pytest.fixture
def clock(app: Celery, monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(datetime(2026, 5, 1, tzinfo=UTC))
    monkeypatch.setattr(app, "now", lambda: clock.now.astimezone(app.timezone))
    return clock


def beat(app: Celery, clock: Clock, until: datetime) -> None:
    """Run Celery's scheduler, with time passing as fast as it says."""
    scheduler = Scheduler(app, Producer=lambda *_, **__: None)
    scheduler.__dict__["producer"] = None
    while clock.now < until:
        clock.now += timedelta(seconds=max(scheduler.tick(), 0.01))


def test_beat_sends_runs_at_their_times(app, clock, monkeypatch):
    sent: list[tuple[datetime, str, dict[str, Any]]] = []

    def send(name: str, *_: Any, **options: Any) -> None:
        sent.append((clock.now.replace(microsecond=0), name, options))

    monkeypatch.setattr(app, "send_task", send)
    beat(app, clock, datetime(2026, 5, 2, 12, tzinfo=UTC))
    purges = [(when, options) for when, name, options in sent if name == "orders.purge"]
    nightly = [(when, options["expires"]) for when, options in purges if "countdown" not in options]
    assert nightly == [
        (datetime(2026, 5, 1, 1, tzinfo=UTC), datetime(2026, 5, 2, 1, tzinfo=UTC)),
        (datetime(2026, 5, 2, 1, tzinfo=UTC), datetime(2026, 5, 3, 1, tzinfo=UTC)),
    ]
    often = [options for _, _, options in sent if "countdown" in options]
    assert 430 <= len(often) <= 432
    assert all(0 <= options["countdown"] <= 20 and options["expires"] == 60 for options in often)


def test_a_run_expires_when_the_next_is_due(app):
    options: dict[str, Any] = {SCHEDULE_OPTION: NIGHTLY}
    assert complete(app, options, datetime(2026, 3, 28, 2, 0, 1, tzinfo=UTC))
    assert options == {"expires": datetime(2026, 3, 29, 1, tzinfo=UTC)}


def test_a_task_that_is_sent_by_beat_has_what_depends_on_its_time(app, monkeypatch):
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(app, "send_task", lambda *_, **options: sent.append(options))
    for name in (NIGHTLY, "often", "of an older version"):
        app.tasks["orders.purge"].apply_async((1,), **{SCHEDULE_OPTION: name})
    assert [SCHEDULE_OPTION in options for options in sent] == [False] * 3
    assert isinstance(sent[0]["expires"], datetime)
    assert 0 <= sent[1]["countdown"] <= 20
    assert sent[2].get("expires") is None


# redbeat


def through_redbeat(app: Celery, entry: Any) -> Any:
    text = json.dumps({"schedule": entry["schedule"]}, cls=RedBeatJSONEncoder)
    return json.loads(text, cls=RedBeatJSONDecoder)["schedule"]


def test_redbeat_can_keep_every_entry(app):
    for entry in app.conf.beat_schedule.values():
        assert json.loads(json.dumps(entry, cls=RedBeatJSONEncoder))["task"] == entry["task"]


def test_redbeat_sees_all_times_that_may_be_one(app):
    kept = through_redbeat(app, app.conf.beat_schedule[NIGHTLY])
    assert type(kept) is crontab
    assert (kept.minute, kept.hour) == ({0}, {1, 2})


def test_only_the_real_ones_are_sent_of_redbeats(app, monkeypatch):
    monkeypatch.setattr(app, "redbeat_conf", object(), raising=False)

    def is_sent(*when: int) -> bool:
        return complete(app, {SCHEDULE_OPTION: NIGHTLY}, datetime(*when, tzinfo=UTC))

    assert is_sent(2026, 1, 5, 2, 0, 3)
    assert not is_sent(2026, 1, 5, 1, 0, 3)
    assert is_sent(2026, 7, 5, 1, 0, 3)
    assert not is_sent(2026, 7, 5, 2, 0, 3)
    assert complete(app, {SCHEDULE_OPTION: "often"}, datetime(2026, 7, 5, 2, 0, 3, tzinfo=UTC))


@settings(max_examples=25, deadline=None)
@given(
    cron=st.builds(
        "{} {} {} * {}".format,
        st.integers(0, 59),
        st.integers(0, 23),
        st.sampled_from(["*", "1", "29-31"]),
        st.sampled_from(["*", "1", "0,3-5"]),
    ),
    zone=st.sampled_from(["Europe/Madrid", "America/St_Johns", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia"]),
    own=st.sampled_from(["UTC", "America/New_York", "Asia/Tokyo"]),
    day=st.integers(0, 330),
)
def test_of_each_real_run_redbeat_sends_one(cron, zone, own, day):
    app = Celery("tests", timezone=own, set_as_current=False)
    entry = Schedule("any", Handler(object, "any", object, TaskSpec("any")), ScheduleSpec(cron, tz=zone))
    begin = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=day)
    kept = through_redbeat(app, {"schedule": entry.times(app)})
    kept.app = app
    offered = [run.astimezone(UTC) for run in next_runs(kept, UTC, begin, 40)]
    real = [run for run in offered if entry.is_real(app, run + timedelta(seconds=2))]
    expected = list(next_runs(entry.times(app), UTC, begin, 41))
    assert real == [run for run in expected if run <= offered[-1]]
