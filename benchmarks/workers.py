"""A worker process, looked at from outside."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from celery import Celery

from tests.servers import temporary_redis

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Subject:
    """What is measured: an app, and how it is set up."""

    label: str
    app: str
    shared_backend: bool = True


BARE = Subject("Celery as it comes", "bare", shared_backend=False)
SHARED = Subject("Celery, shared result backend", "bare")
INJECTED = Subject("pico-celery, three prototypes", "injected")


@contextmanager
def running(subject: Subject, url: str, concurrency: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a gevent worker until the block ends."""
    environment = {
        **os.environ,
        "BENCH_BROKER": url,
        "BENCH_BACKEND": url,
        "BENCH_SHARED_BACKEND": str(int(subject.shared_backend)),
        "PYTHONPATH": str(ROOT),
    }
    options = ["-P", "gevent", "-c", str(concurrency), "-l", "WARNING", "--without-mingle", "--without-gossip"]
    command = [sys.executable, "-m", "celery", "-A", f"benchmarks.apps.{subject.app}", "worker", *options]
    worker = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield worker
    finally:
        worker.terminate()
        try:
            worker.wait(30)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


EMPTY_DATABASE = "an empty Redis database; without it, of a server that is started"


def empty_database(url: str = "") -> str:
    """Return the URL of an empty Redis database: the given one, or one of a server that is started for it.

    Raises:
        SystemExit: If the given one is not empty: it is somebody's.
    """
    if not url:
        if not shutil.which("redis-server"):
            sys.exit("There is no redis-server to start: name an empty Redis database with --url.")
        return f"{temporary_redis()}/0"
    with redis.Redis.from_url(url) as client:
        if client.dbsize():
            sys.exit("The Redis database that --url names is not empty: name one that is.")
    return url


def fill(url: str, count: int, task: str, *args: Any) -> None:
    """Empty the database, and put tasks into the queue."""
    redis.Redis.from_url(url).flushdb()
    app = Celery("bench", broker=url, backend=url, set_as_current=False)
    with app.producer_pool.acquire() as producer:
        for _ in range(count):
            app.send_task(task, args, producer=producer)
    app.close()


def results(url: str) -> int:
    """Return how many results are stored."""
    client = redis.Redis.from_url(url)
    return sum(key.startswith(b"celery-task-meta-") for key in client.scan_iter(count=10_000))


def memory(worker: subprocess.Popen[bytes]) -> float:
    """Return a worker's resident memory, in MiB."""
    status = Path(f"/proc/{worker.pid}/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def processor_time(worker: subprocess.Popen[bytes]) -> float:
    """Return the processor time that a worker has taken, in seconds."""
    fields = Path(f"/proc/{worker.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def until(done: Any, seconds: float = 300) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError("the worker is not done in time")
        time.sleep(0.02)
