"""Servers of a test's own: brokers that refuse, hang or come back, on free ports of this machine."""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import redis


def free_port() -> int:
    """Return a port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def silent_server() -> Iterator[int]:
    """Listen on a port, accept connections, and never answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def unreachable_server() -> Iterator[int]:
    """Listen on a port that takes no more connections: what is sent there is dropped, as behind a firewall."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port: int = server.getsockname()[1]
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        yield port


class OwnRedis:
    """A Redis server of a test's own, which can be stopped and started again.

    Args:
        password: What it asks for, if anything.
    """

    def __init__(self, password: str = "") -> None:
        self.port = free_port()
        self.password = password
        self.url = f"redis://{f':{password}@' if password else ''}127.0.0.1:{self.port}/0"
        self._folder = tempfile.TemporaryDirectory()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("redis-server is not installed")
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self._folder.name]
        if self.password:
            options += ["--requirepass", self.password]
        self._process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        with self.client() as client:
            while True:
                try:
                    client.ping()
                except redis.ConnectionError:
                    assert time.monotonic() < deadline, "redis-server does not start"
                    time.sleep(0.01)
                else:
                    return

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def client(self) -> "redis.Redis":
        return redis.Redis.from_url(self.url, retry=None, decode_responses=True)

    def close(self) -> None:
        self.stop()
        self._folder.cleanup()


@contextmanager
def own_redis(password: str = "") -> Iterator[OwnRedis]:
    """Run a Redis server until the block ends."""
    server = OwnRedis(password)
    try:
        server.start()
        yield server
    finally:
        server.close()
