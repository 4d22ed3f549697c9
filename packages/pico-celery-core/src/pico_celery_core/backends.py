"""Where results are kept, in words that sender and worker can compare."""

import functools
import re
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from celery import Celery

BACKEND_HEADER: Final = "pico_result_backend"
"""The header by which a message says where its sender looks for the result."""

_LOCAL: Final = frozenset({"", "localhost", "127.0.0.1", "::1"})
# A password may have in it what divides the parts of a URL.
_CREDENTIALS: Final = re.compile(r"(?<=://).*@")
_REDIS: Final = frozenset({"redis", "rediss", "redis+socket", "rediss+socket"})


def keeps_results_in_redis(conf: Any) -> bool:
    """Tell whether an app's result backend is Redis, reached directly or through Sentinel.

    Args:
        conf: The app's settings.

    Example:
        >>> from celery import Celery
        >>> keeps_results_in_redis(Celery(backend="sentinel://one:26379;sentinel://two", set_as_current=False).conf)
        True
    """
    return str(conf.result_backend or "").partition(":")[0] in _REDIS | {"sentinel"}


def result_backend_address(app: Celery) -> str:
    """Return where an app keeps results by its settings: kind, server and place on it, without a user or a password.

    Args:
        app: The app.

    Returns:
        The address, or an empty string if the app keeps no results.

    Example:
        >>> from celery import Celery
        >>> result_backend_address(Celery(backend="rediss://:secret@cache/1", set_as_current=False))
        'redis://cache:6379/1'
    """
    backend: Any = app.conf.result_backend
    if not isinstance(backend, str):
        return "" if backend is None else str(getattr(backend, "__qualname__", type(backend).__qualname__))
    return _address(backend, (app.conf.result_backend_transport_options or {}).get("global_keyprefix"))


@functools.lru_cache
def _address(backend: str, prefix: Any) -> str:
    if backend.partition("://")[0] == "disabled":
        return ""
    parts = urlsplit(_CREDENTIALS.sub("", backend.partition(";")[0]))
    server = "localhost" if (parts.hostname or "") in _LOCAL else str(parts.hostname)
    try:
        port = parts.port
    except ValueError:  # some databases have something else in its place
        return f"{parts.scheme}://"
    if parts.scheme in _REDIS:
        return _redis_address(server, port, parts, prefix)
    if not parts.netloc:
        return f"{parts.scheme}://{parts.path}" if parts.scheme else parts.path
    return f"{parts.scheme}://{server}{f':{port}' if port else ''}{parts.path}"


def _redis_address(server: str, port: int | None, parts: Any, prefix: Any) -> str:
    after = f" with the prefix {prefix}" if prefix else ""
    if parts.scheme.endswith("+socket"):
        return f"redis://{parts.path}/{parse_qs(parts.query).get('virtual_host', ['0'])[0]}{after}"
    return f"redis://{server}:{port or 6379}/{parts.path.strip('/') or 0}{after}"
