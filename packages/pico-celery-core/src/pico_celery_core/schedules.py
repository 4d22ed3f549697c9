"""`@schedule`: when a task is sent by itself. A pure declaration, which imports nothing of Celery."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final, Literal, TypeVar, Unpack
from zoneinfo import ZoneInfo

from pico_celery_core.errors import DeclarationError, OptionValueError
from pico_celery_core.metadata import TASK_ATTRIBUTE
from pico_celery_core.options import MessageOptions, check_send_options

_SCHEDULES_ATTRIBUTE: Final = "__pico_celery_schedules__"
_CRON_FIELDS: Final = 5
_SHOWN: Final = "@schedule"

# What may be changed by configuration.
CHANGEABLE: Final = ("cron", "every", "tz", "args", "kwargs", "jitter", "expires")

_Handler = TypeVar("_Handler", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """When a task is sent by itself, and with what.

    Args:
        cron: A cron expression, or an empty string.
        every: The time between two runs, or None.
        tz: The time zone of the cron expression; empty for the app's own.
        args: The positional arguments.
        kwargs: The keyword arguments.
        name: The name of the entry; empty for one that is made of the task's name and the time.
        jitter: By how much a run is delayed at most, in seconds.
        expires: After how many seconds a run that still waits is dropped; "next" when the next one is due.
        options: What the messages are sent with besides.
    """

    cron: str = ""
    every: timedelta | None = None
    tz: str = ""
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    jitter: float = 0
    expires: float | Literal["next"] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def time(self) -> str:
        """When it is, as text.

        Example:
            >>> ScheduleSpec(cron="0 3 * * *", tz="Europe/Madrid").time, ScheduleSpec(every=timedelta(minutes=5)).time
            ('0 3 * * * Europe/Madrid', 'every 0:05:00')
        """
        return f"{self.cron} {self.tz}".strip() if self.cron else f"every {self.every}"

    def changed(self, where: str, changes: Mapping[str, Any]) -> "ScheduleSpec":
        """Return it with other values, as configuration gives them; times in seconds.

        Args:
            where: What says so.
            changes: Values by their names, of `CHANGEABLE`.

        Raises:
            OptionValueError: If a value cannot be.
        """
        given = dict(changes)
        # The one takes the place of the other.
        given |= {"every": None} if given.get("cron") else {}
        given |= {"cron": "", "tz": ""} if given.get("every") is not None else {}
        return _checked(where, replace(self, **given))


def schedule(
    *,
    cron: str = "",
    every: timedelta | float | None = None,
    tz: str = "",
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    name: str = "",
    jitter: timedelta | float = 0,
    **options: Unpack[MessageOptions],
) -> Callable[[_Handler], _Handler]:
    """Declare when a task is sent by itself. It stands above `@task`, once for each schedule.

    The arguments are bound to the handler's signature when the worker or beat starts. The entries are in Celery's own
    `beat_schedule`, for `celery beat`, or celery-redbeat, to send.

    Args:
        cron: A cron expression of five fields: minute, hour, day of month, month, day of week.
        every: The time between two runs; a number is in seconds.
        tz: The time zone of the cron expression, such as "Europe/Madrid"; without it, the setting `timezone`.
        args: The positional arguments.
        kwargs: The keyword arguments.
        name: The entry's name in `beat_schedule`; without it, the task's name and the time.
        jitter: By how much a run is delayed at most, at random; a number is in seconds.
        **options: What else Celery's `send_task` takes, such as `queue` and `priority`. A run that waits for a worker
            longer than `expires` is dropped: a number of seconds, or "next" for until the next run.

    Returns:
        A decorator that returns the method it is given.

    Raises:
        TypeError: If it does not stand above `@task`, or Celery does not know an option.
        ValueError: If a value cannot be, as of a time zone that does not exist.

    Example:
        >>> from pico_celery import schedule, task
        >>> class Orders:
        ...     @schedule(cron="0 3 * * *", tz="Europe/Madrid", kwargs={"days": 30}, expires="next")
        ...     @task("orders.purge")
        ...     async def purge(self, days: int) -> None: ...
    """
    where = f"{_SHOWN}()"
    check_send_options(where, options)
    others: dict[str, Any] = dict(options)
    given: Any = {"every": every, "jitter": jitter, "expires": others.pop("expires", None)}
    spec = ScheduleSpec(cron, tz=tz, args=args, kwargs=kwargs or {}, name=name, options=others, **given)
    spec = _checked(where, spec)

    def declare(handler: _Handler) -> _Handler:
        if not hasattr(handler, TASK_ATTRIBUTE):
            shown = getattr(handler, "__qualname__", repr(handler))
            raise DeclarationError(_SHOWN, shown, "it is no task", f'Write @task("task.name") below {_SHOWN}(...).')
        # The decorators are applied from below; the first to be read is the first.
        setattr(handler, _SCHEDULES_ATTRIBUTE, (spec, *schedules(handler)))
        return handler

    return declare


def schedules(handler: Callable[..., Any]) -> tuple[ScheduleSpec, ...]:
    """Return what `@schedule` says of a handler."""
    found: tuple[ScheduleSpec, ...] = getattr(handler, _SCHEDULES_ATTRIBUTE, ())
    return found


def _checked(where: str, spec: ScheduleSpec) -> ScheduleSpec:
    """Return a schedule of which each value is of its type, as configuration and callers without types may not give."""

    def refuse(option: str, value: Any, hint: str) -> None:
        raise OptionValueError(where, option, repr(value), hint)

    cron: Any = spec.cron
    expires: Any = spec.expires
    if isinstance(expires, timedelta):
        expires = expires.total_seconds()
    if bool(cron) == (spec.every is not None):
        refuse("cron", spec.cron, "Give either a cron expression or `every`.")
    if cron and (not isinstance(cron, str) or len(cron.split()) != _CRON_FIELDS):
        refuse("cron", cron, "Give five fields: minute, hour, day of month, month, day of week.")
    every, jitter = _duration(spec.every), _duration(spec.jitter)
    if spec.every is not None and (every is None or every <= timedelta()):
        refuse("every", spec.every, "Give a timedelta, or a number of seconds above 0.")
    if jitter is None or jitter < timedelta():
        refuse("jitter", spec.jitter, "Give a timedelta, or a number of seconds.")
    if spec.tz:
        if every is not None:
            refuse("tz", spec.tz, "A time zone is for a cron expression: `every` is the same in all of them.")
        try:
            ZoneInfo(spec.tz)
        except (KeyError, ValueError, OSError, TypeError):
            refuse("tz", spec.tz, 'Give the name of a time zone of the IANA data base, such as "Europe/Madrid".')
    is_number = isinstance(expires, (int, float)) and not isinstance(expires, bool)
    if expires is not None and expires != "next" and not (is_number and 0 < expires < math.inf):
        refuse("expires", expires, 'Give a number of seconds, or "next".')
    return replace(
        spec,
        cron=" ".join(spec.cron.split()),
        every=every,
        args=tuple(spec.args),
        kwargs=dict(spec.kwargs),
        jitter=jitter.total_seconds() if jitter else 0,
        expires=expires,
    )


def _duration(value: Any) -> timedelta | None:
    if isinstance(value, timedelta):
        return value
    try:
        return timedelta(seconds=value)
    except (TypeError, ValueError, OverflowError):
        return None
