"""CelerySettings: the settings of an application, and which names they may have."""

import logging
import re
from collections.abc import Mapping
from typing import Any, Final

from celery.app.defaults import NAMESPACES, Option, flatten
from celery.app.utils import HIDDEN_SETTINGS

from pico_celery_core.errors import SettingsError
from pico_celery_core.suggestions import near_miss

PREFIX: Final = "celery"

# Our own; docs/reference/configuration.md says what each is for.
PICO_OPTIONS: Final[dict[str, Option]] = {
    "pico_blocked_timeout": Option(30.0, type="float"),
    "pico_cancel_timeout": Option(10.0, type="float"),
    "pico_cleanup_timeout": Option(10.0, type="float"),
    "pico_http_host": Option("127.0.0.1", type="string"),
    "pico_http_port": Option(0, type="int"),
    "pico_dead_letters": Option(True, type="bool"),
    "pico_dead_letters_failures": Option(False, type="bool"),
    "pico_dead_letters_limit": Option(10_000, type="int"),
    "pico_dead_letters_max_age": Option(30 * 86400.0, type="float"),
    "pico_dead_letters_queue": Option("pico-dead-letters", type="string"),
    "pico_loop_lag_warning": Option(1.0, type="float"),
    "pico_max_message_size": Option(64 * 2**20, type="int"),
    "pico_publish_timeout": Option(10.0, type="float"),
    "pico_result_timeout": Option(None, type="float"),
    "pico_schedules": Option(None, type="dict"),
    "pico_typed_values": Option(True, type="bool"),
}
KNOWN: Final[dict[str, Option]] = {**dict(flatten(NAMESPACES)), **PICO_OPTIONS}
DECLARED: Final = ("broker_url", "backend_url", "task_track_started")

# What `Celery(...)` calls them, and too far from their names as settings to be found by likeness.
_OF_THE_CONSTRUCTOR: Final = {"broker": "broker_url", "backend": "backend_url"}
_NAMESPACES: Final = ("task", "worker", "result", "broker", "beat")
_DEFAULT_BACKEND: Final = "redis://localhost:6379/1"

_MASK: Final = "********"
# What comes before the last @ of a URL is a name and a password; Azure and others put keys behind a ? or a ;.
_URL_SECRETS: Final = re.compile(r"(?<=://).*(?=@)")
_PARAMETER_SECRETS: Final = re.compile(rf"([?&;][^=?&;]*(?:{HIDDEN_SETTINGS.pattern})[^=?&;]*=)[^&;]*", re.IGNORECASE)

logger = logging.getLogger(__name__)


class CelerySettings:
    """The Celery settings of an application.

    The container fills it from the configuration prefix `celery`. Every Celery setting may stand there under its
    lower-case name; a name that looks like a misspelt one is refused, any other is passed on for Celery's extensions.

    Args:
        broker_url: Where messages go.
        backend_url: Where results go, or None to keep none; Celery's own name for it, `result_backend`, is taken too.
        task_track_started: Whether a running task shows as STARTED.
        **settings: Any other Celery setting.

    Raises:
        SettingsError: If a setting looks misspelt, or if `backend_url` and `result_backend` disagree.

    Example:
        >>> settings = CelerySettings(broker_url="redis://:secret@cache:6379/0", task_acks_late=True)
        >>> settings.as_celery()["task_acks_late"]
        True
        >>> "secret" in repr(settings)
        False
    """

    def __init__(
        self,
        *,
        broker_url: str = "redis://localhost:6379/0",
        backend_url: str | None = _DEFAULT_BACKEND,
        task_track_started: bool = True,
        **settings: Any,
    ) -> None:
        for name in settings:
            _check_name(name)
        if backend_url != _DEFAULT_BACKEND:
            settings["backend_url"] = backend_url
        settings = with_one_backend(settings)
        self.broker_url = broker_url
        self.backend_url = settings.pop("backend_url", _DEFAULT_BACKEND) or None
        self.task_track_started = task_track_started
        self.settings: Mapping[str, Any] = settings

    def as_celery(self) -> dict[str, Any]:
        """Return all settings under Celery's own names."""
        return {
            # Without it Celery 5.7 warns that retrying to connect at start-up is about to need this setting.
            "broker_connection_retry_on_startup": True,
            **{name: option.default for name, option in PICO_OPTIONS.items()},
            **self.settings,
            "broker_url": self.broker_url,
            "result_backend": self.backend_url,
            "task_track_started": self.task_track_started,
        }

    def __repr__(self) -> str:
        settings = {
            "broker_url": self.broker_url,
            "backend_url": self.backend_url,
            "task_track_started": self.task_track_started,
            **self.settings,
        }
        return f"CelerySettings({', '.join(f'{name}={_masked(name, value)!r}' for name, value in settings.items())})"


def _masked(name: object, value: Any) -> Any:
    """Return a value without the passwords and keys in it."""
    if isinstance(value, Mapping):
        return {key: _masked(key, item) for key, item in value.items()}
    if HIDDEN_SETTINGS.search(str(name)):
        return _MASK
    if isinstance(value, (list, tuple)):
        return [_masked(name, item) for item in value]
    if isinstance(value, str):
        return _PARAMETER_SECRETS.sub(rf"\1{_MASK}", _URL_SECRETS.sub(_MASK, value))
    return value


def with_one_backend(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of one source with the result backend as `backend_url`, whichever of its two names it has."""
    named = dict(settings)
    if "result_backend" in named:
        backend = named.pop("result_backend")
        if named.setdefault("backend_url", backend) != backend:
            problem = "contradicts 'backend_url', which means the same"
            raise SettingsError("result_backend", problem, "Give only one of the two.")
    return named


def meant_setting(name: str) -> str:
    """Return the setting that an unknown name was probably meant to be, or an empty string.

    Example:
        >>> meant_setting("broker"), meant_setting("concurrency"), meant_setting("CELERY_TASK_ACK_LATE")
        ('broker_url', 'worker_concurrency', 'task_acks_late')
        >>> meant_setting("redbeat_redis_url")
        ''
    """
    # Celery's extensions bring settings of their own, so only what resembles one of Celery's is taken for a mistake.
    plain = name.lower().removeprefix("celery_")
    if plain in _OF_THE_CONSTRUCTOR:
        return _OF_THE_CONSTRUCTOR[plain]
    complete = next((full for space in _NAMESPACES if (full := f"{space}_{plain}") in KNOWN), "")
    return complete or near_miss(plain, (*DECLARED, *KNOWN), cutoff=0.85)


def _check_name(name: str) -> None:
    if name in KNOWN:
        return
    suggestion = meant_setting(name)
    if suggestion:
        raise SettingsError(name, "is not one that Celery knows", f"Did you mean {suggestion!r}?")
    logger.debug("The setting %r is not one of Celery's own; passing it on", name)
