"""Where results are kept, in words that sender and worker can compare."""

from typing import Any, Final
from urllib.parse import urlsplit

from celery import Celery
from celery.backends.base import DisabledBackend

BACKEND_HEADER: Final = "pico_result_backend"
"""The header by which a message says where its sender looks for the result."""

_LOCAL: Final = frozenset({"", "localhost", "127.0.0.1", "::1"})


def result_backend_address(app: Celery) -> str:
    """Return where an app keeps results: kind, server and place on it, without a user or a password.

    Args:
        app: The app.

    Returns:
        The address, or an empty string if the app keeps no results.

    Example:
        >>> from celery import Celery
        >>> result_backend_address(Celery(backend="rediss://:secret@cache/1", set_as_current=False))
        'redis://cache:6379/1'
    """
    backend: Any = app.backend
    if isinstance(backend, DisabledBackend):
        return ""
    parameters = getattr(backend, "connparams", None)  # Redis reads parts of its URL from elsewhere
    if parameters:
        place = parameters.get("path") or "sentinel"
        if "host" in parameters:
            place = f"{_host(parameters['host'])}:{parameters.get('port')}"
        prefix = getattr(backend, "global_keyprefix", None)
        return f"redis://{place}/{parameters.get('db')}{f' with the prefix {prefix}' if prefix else ''}"
    url = str(getattr(backend, "url", None) or app.conf.result_backend or type(backend).__qualname__)
    parts = urlsplit(url.partition(";")[0])
    server = f"{_host(parts.hostname)}{f':{parts.port}' if parts.port else ''}" if parts.netloc else ""
    return f"{parts.scheme}://{server}{parts.path}"


def _host(name: str | None) -> str:
    return "localhost" if (name or "") in _LOCAL else str(name)
