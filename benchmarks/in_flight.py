"""Ten thousand tasks that wait in one worker process, and what memory each takes."""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence

import redis
from rich.console import Console
from rich.table import Table

from benchmarks.workers import (
    EMPTY_DATABASE,
    INJECTED,
    SHARED,
    Subject,
    empty_database,
    fill,
    memory,
    results,
    running,
    until,
)


def measure(subject: Subject, url: str, count: int) -> tuple[float, float]:
    """Return the memory a task in flight takes, in KiB, and how long all of them take, in seconds."""
    fill(url, 0, "bench.sleep")
    client = redis.Redis.from_url(url)
    with running(subject, url, count) as worker:
        until(lambda: client.exists("_kombu.binding.celery"))
        before = memory(worker)
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", _SEND.format(url=url, count=count)], check=True)
        until(lambda: client.llen("celery") == 0)
        peak = memory(worker)
        until(lambda: results(url) >= count)
        return (peak - before) * 1024 / count, time.perf_counter() - began


_SEND = """
from celery import Celery
app = Celery("bench", broker={url!r}, backend={url!r})
with app.producer_pool.acquire() as producer:
    for _ in range({count}):
        app.send_task("bench.sleep", (20,), producer=producer, ignore_result=False)
"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", type=empty_database, default="", help=EMPTY_DATABASE)
    parser.add_argument("--tasks", type=int, default=10_000)
    options = parser.parse_args(arguments)

    table = Table(title=f"{options.tasks:,} tasks of 20 s in flight in one gevent worker")
    for column in ("subject", "KiB a task", "all done after"):
        table.add_column(column, justify="left" if column == "subject" else "right")
    for subject in (SHARED, INJECTED):
        size, seconds = measure(subject, options.url, options.tasks)
        table.add_row(subject.label, f"{size:.1f}", f"{seconds:.1f} s")
    Console().print(table)


if __name__ == "__main__":
    main()
