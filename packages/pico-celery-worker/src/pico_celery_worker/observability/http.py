"""A small HTTP server for probes and scrapers, on the worker's own event loop.

It reads a request line and headers, answers, and closes the connection. The size of a request, the number of
connections and the time that each may take are limited, so that no client can hold up the worker.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeAlias

logger = logging.getLogger(__name__)

# In bytes.
_LARGEST_REQUEST: Final = 8192
_MOST_CONNECTIONS: Final = 32

# How long a connection may take, in seconds: more than the checks of a component may.
DEADLINE: Final = 15.0

_END: Final = b"\r\n\r\n"
_REQUEST_LINE: Final = re.compile(rb"([A-Z]+) (/[^ ?#]*)[^ ]* HTTP/1\.[01]")


@dataclass(frozen=True, slots=True)
class Response:
    """An answer.

    Args:
        status: Its status.
        body: Its text.
        content_type: What the text is.
    """

    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"

    def encoded(self, *, is_head: bool = False) -> bytes:
        """Return what is sent.

        Args:
            is_head: Whether only the head is asked for.
        """
        lines = (
            f"HTTP/1.1 {self.status.value} {self.status.phrase}",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body)}",
            *(("Allow: GET, HEAD",) if self.status is HTTPStatus.METHOD_NOT_ALLOWED else ()),
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
            "Connection: close",
        )
        return "\r\n".join(lines).encode() + _END + (b"" if is_head else self.body)


Route: TypeAlias = Callable[[], Awaitable[Response]]


class HttpServer:
    """Answers GET and HEAD requests. All of its methods are called on the loop.

    Args:
        routes: What answers, by path.
        deadline: How long a connection may take, in seconds.
    """

    def __init__(self, routes: Mapping[str, Route], deadline: float = DEADLINE) -> None:
        self._routes = {path.encode(): route for path, route in routes.items()}
        self._deadline = deadline
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Begin to listen.

        Args:
            host: Where.
            port: The port; 0 for any that is free.

        Returns:
            The port.

        Raises:
            OSError: If the port is taken, or the host is not one of this machine.
        """
        self._server = await asyncio.start_server(self._accept, host, port, limit=_LARGEST_REQUEST)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Stop listening, and drop the connections that are open."""
        if self._server is not None:
            self._server.close()
        connections = tuple(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= _MOST_CONNECTIONS:
            writer.transport.abort()
            return
        connection = asyncio.get_running_loop().create_task(self._serve(reader, writer), name="HTTP request")
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(self._deadline):
                writer.write(await self._answer(reader))
                writer.close()
                await writer.wait_closed()
        except (OSError, EOFError):  # TimeoutError is an OSError
            """The client is too slow, or has gone."""
        except Exception:
            logger.exception("An HTTP request could not be answered")
        finally:
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(_END)
        except asyncio.LimitOverrunError:
            return _plain(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE).encoded()
        asked = _REQUEST_LINE.fullmatch(head.partition(b"\r\n")[0])
        if asked is None:
            return _plain(HTTPStatus.BAD_REQUEST).encoded()
        method, path = asked.groups()
        is_head = method == b"HEAD"
        if not is_head and method != b"GET":
            return _plain(HTTPStatus.METHOD_NOT_ALLOWED).encoded()
        route = self._routes.get(path)
        if route is None:
            return _plain(HTTPStatus.NOT_FOUND).encoded(is_head=is_head)
        try:
            response = await route()
        except Exception:
            logger.exception("The answer to %s failed", path.decode())
            response = _plain(HTTPStatus.INTERNAL_SERVER_ERROR)
        return response.encoded(is_head=is_head)


def _plain(status: HTTPStatus) -> Response:
    return Response(status, f"{status.phrase}\n".encode())
