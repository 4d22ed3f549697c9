"""The server of a worker's health answers what it is asked, and lets nobody keep it busy."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus

import pytest

from pico_celery_worker.observability import http
from pico_celery_worker.observability.http import HttpServer, Response
from tests.waiting import until


async def hello() -> Response:
    return Response(HTTPStatus.OK, b"hello\n")


async def broken() -> Response:
    raise LookupError("a password")


@asynccontextmanager
async def serving(deadline: float = 60) -> AsyncIterator[tuple[HttpServer, int]]:
    server = HttpServer({"/hello": hello, "/broken": broken}, deadline)
    port = await server.start("127.0.0.1", 0)
    try:
        yield server, port
    finally:
        await server.stop()


async def ask(port: int, request: bytes) -> bytes:
    """Send bytes, and return all that comes until the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        async with asyncio.timeout(60):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.transport.abort()


async def test_a_path_is_answered_and_the_connection_closed():
    async with serving() as (_, port):
        answer = await ask(port, b"GET /hello?verbose=1 HTTP/1.1\r\nHost: worker\r\n\r\n")

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.splitlines()[0] == b"HTTP/1.1 200 OK"
    assert b"Content-Length: 6" in head
    assert b"Connection: close" in head
    assert body == b"hello\n"


async def test_head_is_answered_without_a_body():
    async with serving() as (_, port):
        answer = await ask(port, b"HEAD /hello HTTP/1.0\r\n\r\n")

    assert b"Content-Length: 6" in answer
    assert answer.endswith(b"\r\n\r\n")


async def test_a_request_may_come_in_pieces():
    async with serving() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for piece in (b"GET /he", b"llo HTTP/1.1\r\nHost:", b" worker\r\n\r", b"\n"):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        async with asyncio.timeout(60):
            answer = await reader.read()
        writer.transport.abort()

    assert answer.endswith(b"hello\n")


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /elsewhere HTTP/1.1", b"404 Not Found"),
        (b"HEAD /elsewhere HTTP/1.1", b"404 Not Found"),
        (b"POST /hello HTTP/1.1", b"405 Method Not Allowed"),
        (b"GET hello HTTP/1.1", b"400 Bad Request"),
        (b"GET /hello", b"400 Bad Request"),
        (b"\x16\x03\x01", b"400 Bad Request"),
        (b"GET /" + b"x" * 10_000, b"431 Request Header Fields Too Large"),
    ],
)
async def test_what_is_no_request_of_a_path_is_refused(request_line, status):
    async with serving() as (_, port):
        answer = await ask(port, request_line + b"\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 " + status)


async def test_an_answer_that_fails_shows_nothing_of_why(caplog):
    async with serving() as (_, port):
        answer = await ask(port, b"GET /broken HTTP/1.1\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"password" not in answer
    assert "The answer to /broken failed" in caplog.text


async def test_a_client_that_sends_nothing_is_dropped():
    async with serving(deadline=0.05) as (server, port):
        assert await ask(port, b"GET /hello HTTP/1.1\r\n") == b""
        await until(lambda: not server._connections)


async def test_more_connections_than_there_may_be_are_dropped_and_the_others_answered(monkeypatch):
    monkeypatch.setattr(http, "_MOST_CONNECTIONS", 3)
    async with serving() as (server, port):
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        await until(lambda: len(server._connections) == 3)
        assert await ask(port, b"") == b""

        idle[0][1].transport.abort()
        await until(lambda: len(server._connections) == 2)
        assert (await ask(port, b"GET /hello HTTP/1.1\r\n\r\n")).endswith(b"hello\n")
        for _, writer in idle:
            writer.transport.abort()


async def test_a_server_that_stops_drops_what_is_open():
    async with serving() as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await until(lambda: server._connections)

        await server.stop()

        async with asyncio.timeout(60):
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.transport.abort()
        assert not server._connections
        with pytest.raises(ConnectionRefusedError):
            await ask(port, b"")


async def test_a_port_that_is_taken_is_an_error():
    async with serving() as (_, port):
        other = HttpServer({})
        with pytest.raises(OSError, match="in use"):
            await other.start("127.0.0.1", port)
        await other.stop()
