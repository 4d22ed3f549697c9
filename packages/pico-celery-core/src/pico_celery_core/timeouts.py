"""Timeouts: the time limits of pico-celery's own, as an app's settings give them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from pico_celery_core.errors import SettingsError
from pico_celery_core.settings import PICO_OPTIONS


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The time limits of pico-celery's own, all in seconds. docs/reference/configuration.md says what each is for.

    Args:
        publish: How long an `async def` stub may take to send; 0 for no limit.
        result: How long a result is waited for; 0 for no limit.
        cancel: How long a cancelled handler may take to end.
        cleanup: How long each clean-up hook may take.
        blocked: How long a blocked thread may keep a worker from ending; 0 for as long as it takes.
        loop_lag_warning: How long the event loop may be held up without a warning; 0 for no warning.
    """

    publish: float
    result: float
    cancel: float
    cleanup: float
    blocked: float
    loop_lag_warning: float

    @classmethod
    def of(cls, app: Any) -> Self:
        """Read them from the settings of an app, also of one that was not made from `CelerySettings`.

        Args:
            app: The `Celery` app.

        Raises:
            SettingsError: If one is not a number of seconds.

        Example:
            >>> from celery import Celery
            >>> Timeouts.of(Celery(set_as_current=False)).cleanup
            10.0
        """
        return cls.read(app.conf)

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> Self:
        """Read them from settings.

        Args:
            settings: Celery's, by their names.

        Raises:
            SettingsError: If one is not a number of seconds.
        """
        return cls(**{field.name: _seconds(settings, *_setting_of(field.name)) for field in fields(cls)})

    @property
    def termination(self) -> float:
        """How long a task that is terminated may take to end: it unwinds, and is cleaned up."""
        return self.cancel + self.cleanup


def _setting_of(name: str) -> tuple[str, float]:
    setting = next(setting for setting in (f"pico_{name}", f"pico_{name}_timeout") if setting in PICO_OPTIONS)
    default: Any = PICO_OPTIONS[setting].default
    return setting, default


def _seconds(settings: Mapping[str, Any], setting: str, default: float) -> float:
    value = settings.get(setting, default)
    try:
        return float(value or 0)
    except (TypeError, ValueError):
        raise SettingsError(setting, f"is {value!r}", "Give a number of seconds.") from None
