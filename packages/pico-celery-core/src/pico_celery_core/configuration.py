"""Reads Celery's settings from a container's configuration, and finds those that stand where nothing reads them."""

import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Final, cast

from celery.app.defaults import Option
from celery.utils.text import str_to_list
from pico_ioc import EnvSource, PicoContainer

from pico_celery_core import _pico_ioc as access
from pico_celery_core.errors import SettingsError
from pico_celery_core.settings import DECLARED, KNOWN, PREFIX, CelerySettings, meant_setting, with_one_backend
from pico_celery_core.suggestions import near_miss

_CONVERSIONS: Final = cast("Mapping[str, Callable[[str], Any]]", Option.typemap)

# A flat source whose own prefix ends so has the settings under their bare names: EnvSource(prefix="CELERY_").
_OWN_PREFIX: Final = re.compile(rf"(?:^|_){PREFIX}(_*)$", re.IGNORECASE)

# Without the prefix, only such names are surely Celery's; `timezone` or `redis_host` may be anybody's.
_SURELY_CELERYS: Final = ("beat_", "broker_", "pico_", "result_", "task_", "worker_")
_MAYBE_CELERYS: Final = ("backend", "backend_url", "broker")
_BROKER_OR_BACKEND: Final = re.compile(r"(?!https?:)[\w+]+:", re.IGNORECASE)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UnreadSetting:
    """What looks like a setting of Celery's, and stands where it is not read.

    Args:
        name: Its name, as it is written.
        place: Where it stands.
        meant: Where it would be read.
    """

    name: str
    place: str
    meant: str

    @property
    def problem(self) -> str:
        """What is wrong."""
        return f"{self.name!r} in {self.place} looks like a setting of Celery's, and is not read there."

    @property
    def hint(self) -> str:
        """What to do."""
        return f"Did you mean {self.meant}?"


def load_settings(container: PicoContainer) -> CelerySettings:
    """Read the settings from the user's own `@configured(prefix="celery")` class, else from the configuration."""
    own = _own_class(container)
    if own is not None:
        logger.debug("Celery's settings come from %s", getattr(own, "__qualname__", own))
        return CelerySettings(**_fields(container.get(own)))
    tree, flat = _read_tree(access.configuration_tree(container)), _read_flat(_lookup(container))
    return CelerySettings(**{**with_one_backend(tree), **with_one_backend(flat)})


def unread_settings(container: PicoContainer) -> list[UnreadSetting]:
    """Return what looks like a setting of Celery's, and stands outside the prefix or under a misspelt name.

    Args:
        container: Whose configuration to look at. One with a settings class of its own reads what that class says.
    """
    if _own_class(container) is not None:
        return []
    tree, lookup = access.configuration_tree(container), _lookup(container)
    read = {*(tree.get(PREFIX) or ()), *_read_flat(lookup)}
    if read & {"backend_url", "result_backend"}:
        read |= {"backend_url", "result_backend"}
    found = [*_unread_in_tree(tree), *_unread_in_flat_sources(container), *_misspelt_in_environment(container)]
    misplaced = [UnreadSetting(name, place, meant) for name, place, setting, meant in found if setting not in read]
    return [*_misspelt_classes(container), *misplaced]


def _own_class(container: PicoContainer) -> Any:
    return next((key for key, prefix in _configured(container) if prefix == PREFIX), None)


def _configured(container: PicoContainer) -> Iterator[tuple[Any, str]]:
    for key in container.keys():
        provider = container.metadata_for(key)
        if provider is not None and provider.infra == "configured":
            yield key, provider.pico_name or ""


def _fields(configured: Any) -> dict[str, Any]:
    if isinstance(configured, CelerySettings):
        return configured.as_celery()
    if is_dataclass(configured):
        return {field.name: getattr(configured, field.name) for field in fields(configured)}
    return {name: value for name, value in vars(configured).items() if not name.startswith("_")}


def _lookup(container: PicoContainer) -> Callable[[str], str | None]:
    """Return what looks up a setting by its name in the flat sources."""
    prefixed: list[tuple[Any, str]] = []
    for source, prefix in access.flat_sources(container):
        own = _OWN_PREFIX.search(prefix)
        if own is not None:
            prefixed.append((source, "" if own[1] else "_"))

    def lookup(name: str) -> str | None:
        value = access.flat_value(container, f"{PREFIX.upper()}_{name.upper()}")
        values = (source.get(separator + name.upper()) for source, separator in prefixed)
        return value if value is not None else next((value for value in values if value is not None), None)

    return lookup


def _read_tree(tree: Mapping[str, Any]) -> dict[str, Any]:
    settings = tree.get(PREFIX) or {}
    if not isinstance(settings, Mapping):
        raise SettingsError(PREFIX, f"is {type(settings).__name__}, not a mapping", "Put the settings below it.")
    return dict(settings)


def _read_flat(lookup: Callable[[str], str | None]) -> dict[str, Any]:
    found = {name: lookup(name) for name in (*DECLARED, *KNOWN)}
    return {name: _from_text(name, text) for name, text in found.items() if text is not None}


def _from_text(name: str, text: str) -> Any:
    option = KNOWN.get(name, Option())
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


# What is not read: its name, its place, the setting that it means, and where that would be read.
_Unread = tuple[str, str, str, str]


def _unread_in_tree(tree: Mapping[str, Any]) -> Iterator[_Unread]:
    place = "the configuration"
    for key, value in tree.items():
        name = str(key)
        if name == PREFIX:
            continue
        if isinstance(value, Mapping) and _means_prefix(name):
            if PREFIX not in tree:
                yield name, place, name, repr(PREFIX)
            continue
        plain = name.lower()
        under_prefix = plain.startswith((f"{PREFIX}_", f"{PREFIX}."))
        setting = _setting(plain[len(PREFIX) + 1 :]) if under_prefix else _surely_celerys(plain, value)
        if setting:
            yield name, place, setting, f"{setting!r} below {PREFIX!r}"


def _unread_in_flat_sources(container: PicoContainer) -> Iterator[_Unread]:
    names = [*_MAYBE_CELERYS, *(name for name in KNOWN if name.startswith(_SURELY_CELERYS))]
    for source, prefix in access.flat_sources(container):
        if _OWN_PREFIX.search(prefix):
            continue
        place = "the environment" if isinstance(source, EnvSource) else f"the {type(source).__name__}"
        for name in names:
            written = name.upper()
            setting = _surely_celerys(name, source.get(written))
            if setting:
                yield prefix + written, place, setting, repr(f"{prefix}{PREFIX.upper()}_{setting.upper()}")


def _misspelt_in_environment(container: PicoContainer) -> Iterator[_Unread]:
    for source, prefix in access.flat_sources(container):
        if not isinstance(source, EnvSource):
            continue
        start = prefix if _OWN_PREFIX.search(prefix) else f"{prefix}{PREFIX.upper()}_"
        for name in [name for name in os.environ if name.startswith(start)]:
            plain = name[len(start) :].lower().lstrip("_")
            setting = "" if plain in (*DECLARED, *KNOWN) else meant_setting(plain)
            if setting:
                yield name, "the environment", setting, repr(f"{start.rstrip('_')}_{setting.upper()}")


def _misspelt_classes(container: PicoContainer) -> Iterator[UnreadSetting]:
    for key, prefix in _configured(container):
        if _means_prefix(prefix):
            name = f"@configured(prefix={prefix!r})"
            place = f"the decoration of {getattr(key, '__qualname__', key)}"
            yield UnreadSetting(name, place, f"@configured(prefix={PREFIX!r})")


def _means_prefix(name: str) -> bool:
    plain = name.lower().strip("_")
    if plain.startswith(PREFIX):
        return plain == PREFIX
    return bool(near_miss(plain, [PREFIX], cutoff=0.8))


def _surely_celerys(name: str, value: Any) -> str:
    """Return the setting that a name without the prefix means, or an empty string."""
    if value is None:
        return ""
    if name in _MAYBE_CELERYS:
        return _setting(name) if isinstance(value, str) and _BROKER_OR_BACKEND.match(value) else ""
    return name if name.startswith(_SURELY_CELERYS) and name in KNOWN else ""


def _setting(name: str) -> str:
    return name if name in (*DECLARED, *KNOWN) else meant_setting(name)
