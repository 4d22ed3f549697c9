"""Where a worker answers requests for its health and its metrics."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from pico_celery_core.errors import SettingsError
from pico_celery_core.settings import PICO_OPTIONS

PORT: Final = "pico_http_port"
HOST: Final = "pico_http_host"

_LARGEST_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class HttpEndpoint:
    """The address of a worker's HTTP server.

    Args:
        host: The host name or address to listen on.
        port: The port; 0 if there is no server.
    """

    host: str
    port: int

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> Self:
        """Read it from settings.

        Args:
            settings: Celery's, by their names.

        Raises:
            SettingsError: If the port or the host cannot be one.

        Example:
            >>> HttpEndpoint.read({"pico_http_port": 8080})
            HttpEndpoint(host='127.0.0.1', port=8080)
        """
        value = settings.get(PORT, PICO_OPTIONS[PORT].default)
        host = settings.get(HOST, PICO_OPTIONS[HOST].default)
        try:
            port = int(value or 0)
        except (TypeError, ValueError, OverflowError):
            port = -1
        if not 0 <= port <= _LARGEST_PORT:
            raise SettingsError(PORT, f"is {value!r}", f"Give a port from 1 to {_LARGEST_PORT}, or 0 for no server.")
        if not isinstance(host, str) or not host:
            raise SettingsError(HOST, f"is {host!r}", "Give an address such as 127.0.0.1, or 0.0.0.0 for all.")
        return cls(host, port)
