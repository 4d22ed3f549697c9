"""The kinds of brokers and result backends that Celery knows, by the schemes of their URLs."""

from typing import Any, Final

from celery.app.backends import BACKEND_ALIASES
from kombu.transport import TRANSPORT_ALIASES
from kombu.utils.compat import entrypoints

from pico_celery_core.errors import SettingsError
from pico_celery_core.suggestions import near_miss

_ALSO_CALLED: Final = {"rabbit": "amqp", "rabbitmq": "amqp", "postgres": "db+postgresql", "postgresql": "db+postgresql"}
_ENTRY_POINTS: Final = "celery.result_backends"


def check_transports(broker: Any, backend: Any) -> None:
    """Check that broker and result backend are of a kind that there is, before Celery looks for it among modules.

    Args:
        broker: The setting `broker_url`.
        backend: The setting `backend_url`.

    Raises:
        SettingsError: If one is not.
    """
    for url in str(broker or "").split(";"):
        _check("broker_url", url, TRANSPORT_ALIASES)
    if isinstance(backend, str):
        _check("backend_url", backend, {*BACKEND_ALIASES, *(entry.name for entry, _ in _backends())})


def _check(setting: str, url: str, known: Any) -> None:
    scheme, separator, _ = url.partition("://")
    kind = scheme.partition("+")[0]
    # A name with a dot is that of a class of the user's own.
    if not separator or scheme in known or kind in known or "." in scheme:
        return
    meant = _ALSO_CALLED.get(kind) or near_miss(kind, known, cutoff=0.6)
    hint = f"Did you mean {meant}://?" if meant else f"There are {', '.join(sorted(filter(None, known)))}."
    raise SettingsError(setting, f"begins with {scheme}://, which is no kind that Celery knows", hint)


def _backends() -> Any:
    found: Any = entrypoints(_ENTRY_POINTS)  # type: ignore[no-untyped-call]
    return found
