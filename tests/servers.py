"""Servers of a test's own: brokers that refuse, hang or come back, on free ports of this machine."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

import pytest
import redis

from tests.waiting import eventually


def missing(reason: str) -> NoReturn:
    """Skip the test; fail it where the services are said to be there."""
    if os.environ.get("PICO_CELERY_REQUIRE_SERVICES") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def unreachable(service: str, error: Exception) -> NoReturn:
    """Skip the test because of a service; fail it where the services are said to be there."""
    missing(f"{service} is not reachable: {error}")


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


# As what Redis refuses writes: it is full, it is a replica for now, or it has too few replicas.
REFUSALS = ("OOM", "READONLY", "NOREPLICAS")


class OwnRedis:
    """A Redis server that may be stopped, killed and stalled. It keeps its data through a restart.

    Args:
        folder: Where it keeps them.
        password: What it asks for, if anything.
        tls: Options for TLS, if it is to speak nothing else.
    """

    def __init__(self, folder: Path, password: str = "", tls: Sequence[str] = ()) -> None:
        self.port = free_port()
        self.url = f"redis://{f':{password}@' if password else ''}127.0.0.1:{self.port}/0"
        self._log = folder / "log"
        self._options = ["--bind", "127.0.0.1", "--dir", str(folder), "--logfile", str(self._log)]
        self._options += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        self._options += ["--port", "0", "--tls-port", str(self.port), *tls] if tls else ["--port", str(self.port)]
        self._options += ["--requirepass", password] if password else []
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._log.write_text("")
        self._process = subprocess.Popen(["redis-server", *self._options])
        eventually(lambda: "Ready to accept connections" in self._log.read_text(), explain=self._log.read_text)

    def stop(self) -> None:
        """Stop it: its clients' connections end."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            self._process.wait()
            self._process = None

    def stall(self) -> None:
        """Let it answer nobody, and close nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it answer again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def refuse_writes(self, error: str) -> None:
        """Let it refuse what writes.

        Args:
            error: One of REFUSALS.
        """
        with self.client() as client:
            if error == "READONLY":
                client.replicaof("127.0.0.1", free_port())  # nobody is there, so it keeps what it has
            else:
                setting = {"OOM": "maxmemory", "NOREPLICAS": "min-replicas-to-write"}[error]
                client.config_set(setting, 1)

    def take_writes(self) -> None:
        """Let it take what writes again, whatever it has refused that by."""
        with self.client() as client:
            client.replicaof("NO", "ONE")
            client.config_set("maxmemory", 0)
            client.config_set("min-replicas-to-write", 0)

    @contextmanager
    def memory_alarm(self) -> Iterator[None]:
        """Let it be short of memory until the block ends: it refuses what would take more."""
        self.refuse_writes("OOM")
        try:
            yield
        finally:
            self.take_writes()

    def close_connections(self) -> None:
        """End all connections but one's own."""
        with self.client() as client:
            client.execute_command("CLIENT", "KILL", "SKIPME", "yes")

    def client(self) -> "redis.Redis":
        """Return a client of it."""
        return redis.Redis.from_url(self.url, decode_responses=True)


@contextmanager
def own_sentinel(master: int) -> Iterator[str]:
    """Run a Redis Sentinel until the block ends: its URL as a result backend.

    Args:
        master: The port of the one server that it knows, as "master".
    """
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        configuration = Path(folder) / "sentinel.conf"
        lines = [f"port {port}", f"sentinel monitor master 127.0.0.1 {master} 1"]
        lines += ["sentinel down-after-milliseconds master 500", f"logfile {folder}/log", f"dir {folder}"]
        configuration.write_text("\n".join(lines))
        process = subprocess.Popen(["redis-server", str(configuration), "--sentinel"])
        try:
            eventually(lambda: _sees_its_master(port))
            yield f"sentinel://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait()


def _sees_its_master(port: int) -> bool:
    try:
        with redis.Redis(port=port) as client:
            return client.sentinel_master("master")["flags"] == "master"
    except redis.RedisError:
        return False


@contextmanager
def own_redis(password: str = "", tls: Sequence[str] = ()) -> Iterator[OwnRedis]:
    """Run a Redis server until the block ends."""
    if shutil.which("redis-server") is None:
        unreachable("redis-server", FileNotFoundError("it is not installed"))
    with tempfile.TemporaryDirectory() as folder:
        server = OwnRedis(Path(folder), password, tls)
        try:
            yield server
        finally:
            server.stop()


# The pipe of a process whose object is gone would be closed.
_kept: list["subprocess.Popen[bytes]"] = []


def temporary_redis() -> str:
    """Start a Redis server that ends with this process, however that ends, and keeps nothing: its URL."""
    port = free_port()
    # The shell reads from a pipe that only this process writes to, and so notices when it is gone.
    script = 'redis-server "$@" & cat; kill -9 $!'
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(
        ["sh", "-c", script, "sh", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the tests, which still need it then
    )
    _kept.append(process)
    with redis.Redis(port=port) as client:

        def answers() -> bool:
            try:
                return client.ping()
            except redis.ConnectionError:
                return False

        eventually(answers, explain=lambda: f"redis-server {' '.join(options)}")
    return f"redis://127.0.0.1:{port}"


class OwnRabbitMQ:
    """A RabbitMQ server that may be short of memory.

    Args:
        folder: Where it keeps its data, logs and secret.
        scripts: Where its commands are.
    """

    def __init__(self, folder: Path, scripts: Path) -> None:
        self.port = free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        self._scripts = scripts
        self._output = folder / "output"
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RABBITMQ_")},
            "HOME": str(folder),
            "RABBITMQ_NODENAME": f"pico-celery-tests-{self.port}@localhost",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "no-environment"),
            "RABBITMQ_CONFIG_FILE": str(folder / "no-configuration"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "no-plugins"),
        }
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [scripts / "rabbitmq-server"],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        """Wait until it takes connections."""

        def is_ready() -> bool:
            assert self._process.poll() is None, self._output.read_text()
            return "completed with" in self._output.read_text()

        eventually(is_ready, 120, self._output.read_text)

    def stop(self) -> None:
        """Stop it without more ado."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    @contextmanager
    def memory_alarm(self) -> Iterator[None]:
        """Let it be short of memory until the block ends: it reads nothing more from those who publish."""
        self._ctl("set_vm_memory_high_watermark", "absolute", "1")
        try:
            yield
        finally:
            self._ctl("set_vm_memory_high_watermark", "0.4")

    def close_connections(self) -> None:
        """End all connections."""
        self._ctl("close_all_connections", "the end")

    def blocked(self) -> int:
        """Count the connections that have published, and that it reads nothing more from."""
        return self._ctl("list_connections", "state").split().count("blocked")

    def _ctl(self, *arguments: str) -> str:
        command = [self._scripts / "rabbitmqctl", "--quiet", *arguments]
        done = subprocess.run(command, env=self._environment, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr or done.stdout
        return done.stdout


@contextmanager
def own_rabbitmq() -> Iterator[OwnRabbitMQ]:
    """Run a RabbitMQ server until the block ends."""
    command = shutil.which("rabbitmq-server")
    if command is None:
        pytest.skip("rabbitmq-server is not installed")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # Debian puts a script before it that lets nobody but root and rabbitmq run it.
        server = OwnRabbitMQ(Path(folder), Path(command).resolve().parent)
        try:
            server.wait_until_ready()
            yield server
        finally:
            server.stop()
