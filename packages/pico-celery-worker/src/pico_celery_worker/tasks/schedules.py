"""Schedules of handlers: bound to their signatures, put into `beat_schedule`, and completed when a run is sent.

What cannot stand in an entry, because it depends on the time of the run, is added in the process of beat when beat
sends it: until when it is of use, and by how much it is delayed.
"""

import json
import logging
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final
from weakref import WeakKeyDictionary
from zoneinfo import ZoneInfo

from celery import Celery
from celery.schedules import BaseSchedule, crontab
from celery.schedules import schedule as interval
from kombu.exceptions import EncodeError
from kombu.serialization import dumps

from pico_celery_core import _pico_ioc as access
from pico_celery_core.contract.signatures import bind, message_signature
from pico_celery_core.errors import OptionValueError, ScheduleError
from pico_celery_core.schedules import CHANGEABLE, ScheduleSpec, schedules
from pico_celery_core.suggestions import near_miss
from pico_celery_worker.container.handlers import Handler

SETTING: Final = "pico_schedules"

SCHEDULE_OPTION: Final = "pico_schedule"
"""The option that names the schedule of which a message is a run. Celery never sees it: `complete` takes it out."""

_YEAR: Final = 366
_DAY: Final = 24 * 60

logger = logging.getLogger(__name__)


class ZonedCrontab(crontab):  # type: ignore[misc]  # Celery has no types
    """A cron expression in a time zone of its own; Celery's are all in the app's.

    celery-redbeat stores the five fields of a crontab, and makes one of the app's time zone of them. To it this shows
    the fields that are due whenever this one may be, in winter and in summer; `Schedule.is_real` tells which are.

    Args:
        cron: The cron expression.
        zone: The name of the time zone.
        app: The app.
        nowfun: Returns the present time.
    """

    def __init__(self, cron: str, zone: str, app: Any = None, nowfun: Any = None) -> None:
        self.cron, self.zone = cron, zone
        self.inner: Any = crontab_of(cron, nowfun=nowfun, app=app)
        self.inner.tz = ZoneInfo(zone)
        super().__init__(nowfun=nowfun, app=app)
        del self._orig_minute, self._orig_hour

    def __getattr__(self, name: str) -> Any:
        # Only when redbeat asks: the app's time zone is not known before its settings are read.
        if name not in ("_orig_minute", "_orig_hour"):
            raise AttributeError(name)
        minutes, hours = self.possible(self.app.timezone)
        return ",".join(map(str, sorted(minutes if name == "_orig_minute" else hours)))

    def possible(self, zone: tzinfo) -> tuple[set[int], set[int]]:
        """Return the minutes and hours in another time zone at which this may be due."""
        noon = datetime.now(UTC).replace(hour=12)
        days = [noon + timedelta(days=day) for day in range(_YEAR)]
        own = ZoneInfo(self.zone)
        offsets = {
            ((day.astimezone(own).utcoffset() or timedelta()) - (day.astimezone(zone).utcoffset() or timedelta()))
            for day in days
        }
        times = {
            (hour * 60 + minute - int(offset.total_seconds() // 60)) % _DAY
            for offset in offsets
            for hour in self.inner.hour
            for minute in self.inner.minute
        }
        return {time % 60 for time in times}, {time // 60 for time in times}

    def now(self) -> datetime:
        """Return the present time."""
        self.inner.nowfun, self.inner.app = self.nowfun, self.app
        moment: datetime = super().now()
        return moment

    def remaining_estimate(self, last_run_at: datetime, *_: Any) -> timedelta:
        """Return how long it is until the next run, as Celery does."""
        self.now()
        remaining: timedelta = self.inner.remaining_estimate(last_run_at)
        return remaining

    def is_due(self, last_run_at: datetime) -> Any:
        """Tell whether a run is due, and when to ask again, as Celery does."""
        self.now()
        return self.inner.is_due(last_run_at)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ZonedCrontab):
            return False
        return (self.cron, self.zone) == (other.cron, other.zone)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<crontab: {self.cron} {self.zone}>"

    def __reduce__(self) -> Any:
        return type(self), (self.cron, self.zone)


@dataclass(frozen=True)
class Schedule:
    """A schedule of a handler, with arguments that fit.

    Args:
        name: The name of its entry.
        handler: The handler.
        spec: What `@schedule` says, and the configuration.
    """

    name: str
    handler: Handler
    spec: ScheduleSpec

    def times(self, app: Celery) -> Any:
        """Return Celery's schedule of its runs."""
        spec = self.spec
        if spec.every is not None:
            return interval(spec.every, app=app)
        return ZonedCrontab(spec.cron, spec.tz, app=app) if spec.tz else crontab_of(spec.cron, app=app)

    def zone(self, app: Celery) -> tzinfo:
        """Return the time zone of its runs."""
        zone: tzinfo = ZoneInfo(self.spec.tz) if self.spec.tz else app.timezone
        return zone

    def is_real(self, app: Celery, now: datetime) -> bool:
        """Tell whether a run that redbeat sends is one.

        Args:
            app: The app.
            now: The present time.
        """
        times = self.times(app)
        if not isinstance(times, ZonedCrontab):
            return True
        minutes, hours = times.possible(app.timezone)
        candidate = now.astimezone(UTC).replace(second=0, microsecond=0)
        for _ in range(_DAY):
            there = candidate.astimezone(app.timezone)
            if there.minute in minutes and there.hour in hours:
                break
            candidate -= timedelta(minutes=1)
        zone, cron = self.zone(app), times.inner
        day = candidate.astimezone(zone)
        is_its_day = (
            day.day in cron.day_of_month
            and day.month in cron.month_of_year
            and day.isoweekday() % 7 in cron.day_of_week
        )
        # Of a time that comes twice the first counts, and one that is left out in spring is an hour later.
        return is_its_day and any(
            candidate == day.replace(hour=hour, minute=minute, fold=0).astimezone(UTC)
            for hour in cron.hour
            for minute in cron.minute
        )


def crontab_of(cron: str, **options: Any) -> Any:
    """Return Celery's crontab of a cron expression.

    Raises:
        ValueError: If it is none, or never comes.
    """
    minute, hour, day, month, weekday = cron.split()
    return crontab(minute, hour, weekday, day, month, **options)


def next_runs(times: BaseSchedule, zone: tzinfo, now: datetime, number: int) -> Iterator[datetime]:
    """Yield the next times of a schedule of Celery's.

    Args:
        times: The schedule.
        zone: The time zone in which to tell them.
        now: After when.
        number: How many.
    """
    moment = now
    for _ in range(number):
        # Another, as this one may be in use by beat.
        asked = _at(times, moment)
        moment = moment + asked.remaining_estimate(moment)
        yield moment.astimezone(zone)


def _at(times: Any, moment: datetime) -> Any:
    def now() -> datetime:
        return moment

    if isinstance(times, ZonedCrontab):
        return ZonedCrontab(times.cron, times.zone, times.app, now)
    if isinstance(times, crontab):
        fields = (times._orig_minute, times._orig_hour, times._orig_day_of_week)  # noqa: SLF001
        return crontab(*fields, times._orig_day_of_month, times._orig_month_of_year, nowfun=now, app=times.app)  # noqa: SLF001
    return interval(times.run_every, times.relative, now, app=times.app)


# The schedules of each app, by their names.
_schedules: Final[WeakKeyDictionary[Celery, Mapping[str, Schedule]]] = WeakKeyDictionary()


def schedules_of(app: Celery) -> Mapping[str, Schedule]:
    """Return the schedules that an app's container has, by the names of their entries."""
    return _schedules.get(_itself(app), {})


def add_schedules(app: Celery, handlers: Iterable[Handler]) -> None:
    """Put the schedules of handlers into an app's `beat_schedule`, once its settings are known.

    Args:
        app: The app.
        handlers: The handlers.

    Raises:
        ScheduleError: If arguments do not fit the handler, a cron expression is none, or two entries have one name.
        OptionValueError: If the setting `pico_schedules` names no schedule, or changes one to what it cannot be.
    """
    found: dict[str, Schedule] = {}
    for handler in handlers:
        for spec in schedules(handler.function):
            entry = _bound(Schedule(spec.name or f"{handler.spec.name} {spec.time}", handler, spec))
            other = found.setdefault(entry.name, entry)
            if other is not entry:
                problem = f"an entry of {other.handler} has the name {entry.name!r}, too: give one another name"
                raise ScheduleError(str(handler), spec.time, problem)
    if not found:
        return
    conf: Any = app.conf
    if app.configured or SETTING in conf:
        # Before the settings are read, to ask for one would read them: only this map's `setdefault` does not.
        setting = conf.get(SETTING) if app.configured else conf.maps[0].setdefault(SETTING, None)
        _add(app, _configured(found, setting or {}))
        return

    # The settings are read later, perhaps from a module: reading them now would do so too early.
    def add(**_: Any) -> None:
        try:
            _add(app, _configured(found, app.conf.get(SETTING) or {}))
        except Exception as error:
            logger.critical("No task is scheduled: %s", error)
            raise

    app.on_after_configure.connect(add, weak=False)


def _add(app: Celery, found: Mapping[str, Schedule]) -> None:
    _schedules[_itself(app)] = found
    for name, entry in found.items():
        spec, task = entry.spec, entry.handler.spec.name
        options = {**spec.options, SCHEDULE_OPTION: name}
        if isinstance(spec.expires, (int, float)):
            options["expires"] = spec.expires
        signature = app.signature(task, tuple(spec.args), dict(spec.kwargs))
        app.add_periodic_task(entry.times(app), signature, name=name, **options)


def _bound(entry: Schedule) -> Schedule:
    spec, handler = entry.spec, entry.handler
    signature = message_signature(handler.function, bound=bool(handler.spec.options.get("bind")))
    try:
        bind(signature, tuple(spec.args), spec.kwargs)
        dumps([*spec.args, dict(spec.kwargs)], "json")  # type: ignore[no-untyped-call]
        json.dumps(dict(spec.options))  # as redbeat keeps them
        if spec.cron:
            crontab_of(spec.cron)
    except (TypeError, ValueError, EncodeError) as error:
        problem = f"{str(error).rstrip('.')}. The handler is {handler}{signature}"
        raise ScheduleError(str(handler), spec.time, problem) from error
    return entry


def _configured(found: Mapping[str, Schedule], setting: Any) -> dict[str, Schedule]:
    """Return the schedules as the setting `pico_schedules` has them."""
    if not isinstance(setting, Mapping):
        raise OptionValueError("The configuration", SETTING, repr(setting), "Give a mapping of names to changes.")
    entries = dict(found)
    for key, changes in setting.items():
        meant = [name for name, entry in found.items() if key in (name, entry.handler.spec.name)]
        where = f"The setting {SETTING!r}"
        if not meant:
            known = [*found, *(entry.handler.spec.name for entry in found.values())]
            near = near_miss(str(key), known)
            hint = f"Did you mean {near!r}?" if near else f"There are {', '.join(map(repr, found))}."
            raise OptionValueError(where, str(key), repr(changes), f"No schedule has this name. {hint}")
        for name in meant:
            if changes is False or changes is None:
                del entries[name]
            elif isinstance(changes, Mapping) and set(changes) <= set(CHANGEABLE):
                spec = found[name].spec.changed(f"{where} for {name!r}", changes)
                entries[name] = _bound(Schedule(name, found[name].handler, spec))
            elif changes is not True:
                hint = f"Give False, or a mapping of some of {', '.join(CHANGEABLE)}."
                raise OptionValueError(where, str(key), repr(changes), hint)
    return entries


def complete(app: Celery, options: dict[str, Any], now: datetime | None = None) -> bool:
    """Add to the options of a run, which beat sends, what depends on its time.

    Args:
        app: The app.
        options: The options of the message; changed.
        now: The present time; without it, the app's.

    Returns:
        Whether to send it.
    """
    entry = schedules_of(app).get(options.pop(SCHEDULE_OPTION))
    if entry is None:  # an older entry, in a store of redbeat's
        return True
    moment: datetime = app.now() if now is None else now
    if hasattr(app, "redbeat_conf") and not entry.is_real(app, moment):
        return False
    spec = entry.spec
    if spec.jitter:
        options["countdown"] = random.uniform(0, spec.jitter)  # noqa: S311  # nothing secret
    if spec.expires == "next":
        (following,) = next_runs(entry.times(app), UTC, moment.astimezone(UTC), 1)
        options["expires"] = following
    return True


def _itself(app: Celery) -> Any:
    _ = app.main
    return access.unwrap_proxy(app)
