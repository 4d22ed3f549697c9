"""What goes wrong between a worker and its broker, made to order."""

import asyncio
import contextlib
import os
import resource
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests import services
from tests.servers import free_port, unreachable


class Network:
    """Stands between clients and a server: may refuse connections, cut them, and lose what is sent.

    Args:
        host: The server's.
        port: The server's.
        delay: How long an answer takes, in seconds.
    """

    def __init__(self, host: str, port: int, delay: float = 0) -> None:
        self._target = host, port
        self._delay = delay
        self._refuses = self._loses = False
        self._connections: set[_Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port = int(self._server.sockets[0].getsockname()[1])

    def cut(self) -> None:
        """End all connections."""
        self._call(self._abort_all)

    def refuse(self) -> None:
        """End all connections, and every new one."""
        self._refuses = True
        self.cut()

    def lose(self) -> None:
        """Lose what is sent from now on. Nobody is told, and connections that lost something are lost for good."""

        def mark_all() -> None:
            self._loses = True
            for connection in self._connections:
                connection.is_lost = True

        self._call(mark_all)

    def recover(self) -> None:
        """Let new connections through."""
        self._refuses = self._loses = False

    def close(self) -> None:
        self._call(self._abort_all)
        self._call(self._server.close)
        self._do(_wait_for_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _abort_all(self) -> None:
        for connection in self._connections:
            connection.abort()

    def _do(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    def _call(self, function: Callable[[], None]) -> None:
        async def call() -> None:
            function()

        self._do(call())

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            writer.transport.abort()
            return
        connection = _Connection(writer, self._loses, self._delay)
        self._connections.add(connection)
        try:
            with contextlib.suppress(OSError):
                await connection.carry(reader, *await asyncio.open_connection(*self._target))
        finally:
            connection.abort()
            self._connections.discard(connection)


class _Connection:
    def __init__(self, writer: asyncio.StreamWriter, is_lost: bool, delay: float) -> None:
        self.is_lost = is_lost
        self._delay = delay
        self._writers = [writer]

    async def carry(
        self, reader: asyncio.StreamReader, server_reader: asyncio.StreamReader, server_writer: asyncio.StreamWriter
    ) -> None:
        self._writers.append(server_writer)
        there = asyncio.create_task(self._pump(reader, server_writer))
        back = asyncio.create_task(self._pump(server_reader, self._writers[0], self._delay))
        await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
        self.abort()
        await asyncio.gather(there, back, return_exceptions=True)

    def abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float = 0) -> None:
        while data := await reader.read(65536):
            await asyncio.sleep(delay)
            if not self.is_lost:
                writer.write(data)
                await writer.drain()


async def _wait_for_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@contextmanager
def network(url: str, delay: float = 0) -> Iterator[tuple[Network, str]]:
    """Put a network before a server until the block ends, and return both it and the URL by which to go through it.

    Args:
        url: The server's.
        delay: How long an answer takes, in seconds.
    """
    parts = urlsplit(url)
    between = Network(parts.hostname or "localhost", parts.port or {"redis": 6379}.get(parts.scheme, 5672), delay)
    user, at, _ = parts.netloc.rpartition("@")
    try:
        yield between, urlunsplit(parts._replace(netloc=f"{user}{at}127.0.0.1:{between.port}"))
    finally:
        between.close()


@contextmanager
def no_file_to_open(pid: int) -> Iterator[None]:
    """Let a process open neither files nor connections until the block ends.

    Args:
        pid: The process.
    """
    prlimit = getattr(resource, "prlimit", None)
    if prlimit is None:
        pytest.skip("only Linux can limit another process")
    soft, hard = prlimit(pid, resource.RLIMIT_NOFILE)
    prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))  # its standard input and output remain
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def rabbitmqctl(*arguments: str) -> None:
    """Tell RabbitMQ something."""
    if shutil.which("rabbitmqctl") is None or os.geteuid() != 0:
        pytest.skip("rabbitmqctl is not there, or needs another user")
    done = subprocess.run(["rabbitmqctl", "--quiet", *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        unreachable("rabbitmqctl", RuntimeError(done.stderr or done.stdout))


@contextmanager
def rabbitmq_vhost() -> Iterator[tuple[str, str]]:
    """Lend a virtual host of RabbitMQ: its name, and its URL."""
    name = f"pico-celery-tests-{os.getpid()}-{free_port()}"
    rabbitmqctl("add_vhost", name)
    try:
        parts = urlsplit(services.rabbitmq_url())
        rabbitmqctl("set_permissions", "-p", name, parts.username or "guest", ".*", ".*", ".*")
        yield name, urlunsplit(parts._replace(path=f"/{name}"))
    finally:
        rabbitmqctl("delete_vhost", name)
