"""What an app's settings say of dead letters."""

from dataclasses import dataclass
from typing import Any, Self

from celery.utils.serialization import strtobool

from pico_celery_core.errors import SettingsError
from pico_celery_core.settings import PICO_OPTIONS


@dataclass(frozen=True, slots=True)
class Options:
    """The settings that begin with `pico_dead_letters`; docs/reference/configuration.md says what each is for.

    Args:
        keeps: Whether messages are kept that would be lost.
        keeps_failures: Whether the messages of tasks are kept too that have failed for good.
        limit: How many letters are kept.
        max_age: For how long one is kept, in seconds.
        queue: What their queue is called in RabbitMQ, and in Redis the key of their hash.
    """

    keeps: bool
    keeps_failures: bool
    limit: int
    max_age: float
    queue: str

    @classmethod
    def of(cls, app: Any) -> Self:
        """Read them.

        Args:
            app: The `Celery` app.

        Raises:
            SettingsError: If one has a value that it cannot have.
        """
        return cls(
            keeps=_flag(app, "pico_dead_letters"),
            keeps_failures=_flag(app, "pico_dead_letters_failures"),
            limit=int(_number(app, "pico_dead_letters_limit")),
            max_age=_number(app, "pico_dead_letters_max_age"),
            queue=str(_value(app, "pico_dead_letters_queue")),
        )


def _value(app: Any, setting: str) -> Any:
    return app.conf.get(setting, PICO_OPTIONS[setting].default)


def _flag(app: Any, setting: str) -> bool:
    value = _value(app, setting)
    try:
        return bool(strtobool(value))
    except (TypeError, ValueError):
        raise SettingsError(setting, f"is {value!r}", "Give true or false.") from None


def _number(app: Any, setting: str) -> float:
    value = _value(app, setting)
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = 0
    if number < 1:
        raise SettingsError(setting, f"is {value!r}", "Give a number of 1 or more.")
    return number
