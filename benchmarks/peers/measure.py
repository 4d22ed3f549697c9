"""One measurement of one contender: servers emptied, queue filled, one worker process."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import kombu
import redis

from benchmarks.peers.contenders import ROOT, Contender, Servers

CONCURRENCY: Final = 100
WAITING: Final = 1000
_LONGEST: Final = 120.0
_START: Final = 5.0  # for a worker to be there, in seconds
_QUEUES: Final = ("pico-celery-peers", "taskiq-peers", "taskiq-peers.delay", "taskiq-peers.dead_letter")


class PeerError(RuntimeError):
    """A contender did not do what it was to do."""


def noop_rate(contender: Contender, servers: Servers, tasks: int) -> dict[str, float]:
    """Return no-op tasks a second, and processor time a task in microseconds, of one worker process."""
    return _consume(contender, servers, tasks, CONCURRENCY)


def wait_rate(contender: Contender, servers: Servers, tasks: int) -> dict[str, float]:
    """Return half-second tasks a second, of one worker process that may run a thousand at a time."""
    return _consume(contender, servers, tasks, WAITING, 0.5)


def publish_rate(contender: Contender, servers: Servers, tasks: int) -> dict[str, float]:
    """Return tasks a second that 100 coroutines send, and processor time a task in microseconds."""
    empty(servers)
    return _send(contender, servers, "publish", tasks)


def publish_now_rate(contender: Contender, servers: Servers, tasks: int) -> dict[str, float]:
    """Return tasks a second that a plain loop sends."""
    empty(servers)
    return _send(contender, servers, "publish_now", tasks)


def round_trip(contender: Contender, servers: Servers, tasks: int) -> dict[str, float]:
    """Return how long a call and its result take, in milliseconds."""
    empty(servers)
    with _worker(contender, servers, CONCURRENCY, {}):
        time.sleep(_START)
        return _send(contender, servers, "round_trips", tasks)


def empty(servers: Servers) -> None:
    """Empty the databases and delete the queues."""
    for url in {url for url in (servers.broker, servers.results) if url.startswith("redis")}:
        with redis.Redis.from_url(url) as client:
            client.flushdb()
    if servers.broker.startswith("amqp"):
        with kombu.Connection(servers.broker) as connection:
            for name in _QUEUES:
                kombu.Queue(name, channel=connection.default_channel).delete()


def _consume(contender: Contender, servers: Servers, tasks: int, concurrency: int, *wait: float) -> dict[str, float]:
    empty(servers)
    _send(contender, servers, "fill", tasks, *wait)
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder, "told")
        with _worker(contender, servers, concurrency, {"PEERS_TASKS": str(tasks), "PEERS_TOLD": str(told)}) as worker:
            deadline = time.monotonic() + _LONGEST
            while not told.exists():
                if worker.poll() is not None or time.monotonic() > deadline:
                    raise PeerError(f"{contender.label}: the worker did not execute {tasks} tasks")
                time.sleep(0.05)
        measured: dict[str, float] = json.loads(told.read_text(encoding="utf-8"))
        return measured


def _send(contender: Contender, servers: Servers, what: str, count: int, *args: float) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.peers.sending", contender.module, what, str(count), *map(str, args)]
    environment = servers.environment(contender, CONCURRENCY)
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PeerError(f"{contender.label}: {what} failed\n{done.stderr}")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


@contextmanager
def _worker(
    contender: Contender, servers: Servers, concurrency: int, more: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**servers.environment(contender, concurrency), **more}
    asked = "import importlib, sys; print(*importlib.import_module(sys.argv[1]).WORKER, sep='\\n')"
    told = subprocess.run(
        [sys.executable, "-c", asked, contender.module], cwd=ROOT, env=environment, capture_output=True, check=True
    )
    script, *options = told.stdout.decode().split("\n")[:-1]
    command = [str(Path(sys.executable).parent / script), *options]
    with tempfile.TemporaryFile() as log:
        worker = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            yield worker
        except PeerError as error:
            log.seek(0)
            raise PeerError(f"{error}\n{log.read().decode()[-3000:]}") from None
        finally:
            worker.terminate()
            with suppress(subprocess.TimeoutExpired):
                worker.wait(20)
            worker.kill()
            worker.wait()
