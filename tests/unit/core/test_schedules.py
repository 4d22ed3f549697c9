"""`@schedule`: what it stands on, and which values it may have."""

from datetime import timedelta
from typing import Any

import pytest

from pico_celery_core import schedule, task
from pico_celery_core.errors import DeclarationError, OptionValueError, UnknownOptionError
from pico_celery_core.schedules import ScheduleSpec, schedules


def declared(**values: Any) -> ScheduleSpec:
    @schedule(**values)
    @task("orders.purge")
    async def purge(self) -> None: ...

    (spec,) = schedules(purge)
    return spec


def test_schedules_are_read_from_above():
    class Orders:
        @schedule(cron="0 3 * * *", tz="Europe/Madrid", kwargs={"days": 30}, expires="next", queue="slow")
        @schedule(every=timedelta(minutes=5), args=[1], jitter=timedelta(seconds=3), name="often")
        @task("orders.purge")
        async def purge(self, days: int) -> None: ...

    assert schedules(Orders.purge) == (
        ScheduleSpec("0 3 * * *", None, "Europe/Madrid", (), {"days": 30}, "", 0, "next", {"queue": "slow"}),
        ScheduleSpec("", timedelta(minutes=5), "", (1,), {}, "often", 3, None, {}),
    )


def test_a_method_without_one_has_none():
    assert schedules(declared) == ()


@pytest.mark.parametrize(
    ("values", "time"),
    [
        ({"cron": " 0  3 * *   1 "}, "0 3 * * 1"),
        ({"cron": "0 3 * * *", "tz": "Europe/Madrid"}, "0 3 * * * Europe/Madrid"),
        ({"every": 90}, "every 0:01:30"),
    ],
)
def test_its_time_as_text(values, time):
    assert declared(**values).time == time


@pytest.mark.parametrize(
    ("values", "option"),
    [
        ({}, "cron"),
        ({"cron": "0 3 * * *", "every": 5}, "cron"),
        ({"cron": "0 3 * *"}, "cron"),
        ({"cron": 3}, "cron"),
        ({"every": 0}, "every"),
        ({"every": timedelta(seconds=-1)}, "every"),
        ({"every": "often"}, "every"),
        ({"cron": "0 3 * * *", "tz": "Europe/Madird"}, "tz"),
        ({"every": 5, "tz": "Europe/Madrid"}, "tz"),
        ({"every": 5, "jitter": -1}, "jitter"),
        ({"every": 5, "jitter": "some"}, "jitter"),
        ({"every": 5, "expires": "soon"}, "expires"),
        ({"every": 5, "expires": 0}, "expires"),
    ],
)
def test_a_value_that_cannot_be_is_refused(values, option):
    with pytest.raises(OptionValueError, match=rf"@schedule\(\) got the option '{option}'"):
        declared(**values)


def test_an_option_that_celery_does_not_know_is_refused():
    with pytest.raises(UnknownOptionError, match="Did you mean 'queue'"):
        declared(every=5, queu="slow")


def test_it_stands_above_a_task():
    with pytest.raises(DeclarationError, match="below @schedule"):

        @schedule(every=5)
        async def purge(self) -> None: ...


def test_a_change_takes_the_place_of_what_it_changes():
    spec = declared(cron="0 3 * * *", tz="Europe/Madrid", jitter=3)
    assert spec.changed("here", {"every": 60}).time == "every 0:01:00"
    assert spec.changed("here", {"cron": "0 4 * * *"}).time == "0 4 * * * Europe/Madrid"
    assert spec.changed("here", {"jitter": 0}).jitter == 0
    with pytest.raises(OptionValueError, match="here got the option 'tz'"):
        spec.changed("here", {"tz": "Nowhere"})
