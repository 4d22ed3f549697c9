"""CelerySettings: what the configuration says under the prefix `celery`."""

import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final, cast

from celery import Celery
from celery.app.defaults import NAMESPACES, Option, flatten
from celery.app.utils import HIDDEN_SETTINGS
from celery.utils.text import str_to_list
from pico_ioc import PicoContainer

from pico_celery_core.errors import SettingsError, near_miss

PREFIX: Final = "celery"

# Our own, all in seconds; docs/configuration.md says what each is for.
_PICO_OPTIONS: Final = {
    "pico_cancel_timeout": Option(10.0, type="float"),
    "pico_cleanup_timeout": Option(10.0, type="float"),
    "pico_loop_lag_warning": Option(1.0, type="float"),
    "pico_publish_timeout": Option(10.0, type="float"),
}
_KNOWN: Final[dict[str, Option]] = {**dict(flatten(NAMESPACES)), **_PICO_OPTIONS}
_CONVERSIONS: Final = cast("Mapping[str, Callable[[str], Any]]", Option.typemap)
_DECLARED: Final = ("broker_url", "backend_url", "task_track_started")
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
        settings = _with_one_backend(settings)
        self.broker_url = broker_url
        self.backend_url = settings.pop("backend_url", _DEFAULT_BACKEND) or None
        self.task_track_started = task_track_started
        self.settings: Mapping[str, Any] = settings

    def as_celery(self) -> dict[str, Any]:
        """Return all settings under Celery's own names."""
        return {
            # Without it Celery 5.7 warns that retrying to connect at start-up is about to need this setting.
            "broker_connection_retry_on_startup": True,
            **{name: option.default for name, option in _PICO_OPTIONS.items()},
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


def seconds(app: Celery, setting: str) -> float:
    """Return one of our own settings, also of an app that was not made from `CelerySettings`.

    Args:
        app: The app.
        setting: The setting's name.

    Raises:
        SettingsError: If it is not a number of seconds.
    """
    value = app.conf.get(setting, _PICO_OPTIONS[setting].default)
    try:
        return float(value or 0)
    except (TypeError, ValueError):
        raise SettingsError(setting, f"is {value!r}", "Give a number of seconds.") from None


def load_settings(container: PicoContainer) -> CelerySettings:
    """Read the settings from the user's own `@configured(prefix="celery")` class, else from the configuration."""
    for key in container.keys():
        provider = container.metadata_for(key)
        if provider is not None and provider.infra == "configured" and provider.pico_name == PREFIX:
            logger.debug("Celery's settings come from %s", getattr(key, "__qualname__", key))
            return CelerySettings(**_fields(container.get(key)))
    tree, lookup = _sources(container)
    return CelerySettings(**{**_with_one_backend(_read_tree(tree)), **_with_one_backend(_read_flat(lookup))})


def _with_one_backend(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of one source with the result backend as `backend_url`, whichever of its two names it has."""
    named = dict(settings)
    if "result_backend" in named:
        backend = named.pop("result_backend")
        if named.setdefault("backend_url", backend) != backend:
            problem = "contradicts 'backend_url', which means the same"
            raise SettingsError("result_backend", problem, "Give only one of the two.")
    return named


def _fields(configured: Any) -> dict[str, Any]:
    if isinstance(configured, CelerySettings):
        return configured.as_celery()
    if is_dataclass(configured):
        return {field.name: getattr(configured, field.name) for field in fields(configured)}
    return {name: value for name, value in vars(configured).items() if not name.startswith("_")}


# pico-ioc 2.5.2 binds a configuration prefix only to a class that lists its fields beforehand, and to either tree or
# flat sources: with only the other kind at hand, init() fails. Celery's settings are many, and both kinds of source are
# common. So what the container was given is read from its configuration manager, for which there is no public way.
# tests/unit/core/test_settings.py holds it to it.


def _sources(container: PicoContainer) -> tuple[Mapping[str, Any], Callable[[str], str | None]]:
    """Return the merged tree sources, and a look-up in the flat ones."""
    manager: Any = container._config_manager  # noqa: SLF001
    return manager._resolver.tree(), manager._lookup_flat  # noqa: SLF001


def _read_tree(tree: Mapping[str, Any]) -> dict[str, Any]:
    settings = tree.get(PREFIX) or {}
    if not isinstance(settings, Mapping):
        raise SettingsError(PREFIX, f"is {type(settings).__name__}, not a mapping", "Put the settings below it.")
    return dict(settings)


def _read_flat(lookup: Callable[[str], str | None]) -> dict[str, Any]:
    found = {name: lookup(f"CELERY_{name.upper()}") for name in (*_DECLARED, *_KNOWN)}
    return {name: _from_text(name, text) for name, text in found.items() if text is not None}


def _from_text(name: str, text: str) -> Any:
    option = _KNOWN.get(name, Option())
    # Celery names its types, all but one: that of beat_cron_starting_deadline is the class itself.
    kind = "int" if option.type is int else option.type
    try:
        if kind in ("list", "tuple"):
            return [item.strip() for item in str_to_list(text)]
        # Where Celery expects a switch it often takes a mapping as well, as for broker_use_ssl.
        if kind in ("dict", "any") or (kind != "string" and text.lstrip().startswith("{")):
            return _json_or_text(text)
        return _CONVERSIONS[kind](text) if kind in _CONVERSIONS else text
    except (TypeError, ValueError) as error:
        raise SettingsError(name, f"is {text!r}", f"Celery takes a value of type {kind} there.") from error


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _check_name(name: str) -> None:
    if name in _KNOWN:
        return
    # Celery's extensions bring settings of their own, so only what resembles one of Celery's is taken for a mistake.
    plain = name.lower().removeprefix("celery_")
    suggestion = near_miss(plain, (*_DECLARED, *_KNOWN), cutoff=0.85)
    if suggestion:
        raise SettingsError(name, "is not one that Celery knows", f"Did you mean {suggestion!r}?")
    logger.debug("The setting %r is not one of Celery's own; passing it on", name)
