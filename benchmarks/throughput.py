"""How many tasks a second one gevent worker process does, beside bare Celery.

The queue is filled beforehand. No-op tasks are measured between the first tenth and the last task, half-second tasks
from the first result on. The subjects take turns, and the ratios are those of the medians: machines are noisy.
"""

import argparse
import statistics
import time
from collections.abc import Sequence

import redis
from rich.console import Console
from rich.table import Table

from benchmarks.workers import (
    BARE,
    EMPTY_DATABASE,
    INJECTED,
    SHARED,
    Subject,
    empty_database,
    fill,
    processor_time,
    running,
    until,
)


def noop_rate(subject: Subject, url: str, count: int, concurrency: int) -> tuple[float, float]:
    """Return tasks a second, and processor time a task in microseconds."""
    fill(url, count, "bench.noop")
    client = redis.Redis.from_url(url)
    before = _stored(client)
    with running(subject, url, concurrency) as worker:
        until(lambda: _stored(client) - before >= count / 10)
        first, began, processor = _stored(client), time.perf_counter(), processor_time(worker)
        until(lambda: _stored(client) - before >= count)
        done = _stored(client) - first
        return done / (time.perf_counter() - began), (processor_time(worker) - processor) / done * 1e6


def sleep_time(subject: Subject, url: str, count: int, concurrency: int) -> float:
    """Return how long the half-second tasks take, in seconds."""
    fill(url, count, "bench.sleep", 0.5)
    client = redis.Redis.from_url(url)
    before = _stored(client)
    with running(subject, url, concurrency):
        until(lambda: _stored(client) > before)
        began = time.perf_counter()
        until(lambda: _stored(client) - before >= count)
        return time.perf_counter() - began


def _stored(client: redis.Redis) -> int:
    """How often a result was stored, by the server's own count: asking for it costs the worker nothing."""
    return sum(int(client.info("commandstats").get(f"cmdstat_{name}", {}).get("calls", 0)) for name in ("setex", "set"))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", type=empty_database, default="", help=EMPTY_DATABASE)
    parser.add_argument("--tasks", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)

    subjects = (BARE, SHARED, INJECTED)
    rates: dict[Subject, list[tuple[float, float]]] = {subject: [] for subject in subjects}
    sleeps: dict[Subject, list[float]] = {subject: [] for subject in subjects}
    for _ in range(options.rounds):
        for subject in subjects:
            rates[subject].append(noop_rate(subject, options.url, options.tasks, concurrency=100))
            sleeps[subject].append(sleep_time(subject, options.url, options.tasks // 3, concurrency=1000))

    table = Table(title="One gevent worker process on Redis, medians")
    for column in ("subject", "no-op tasks/s", "CPU µs/task", f"{options.tasks // 3} × 0.5 s", "rate of the last"):
        table.add_column(column, justify="left" if column == "subject" else "right")
    last = statistics.median(rate for rate, _ in rates[INJECTED])
    for subject in subjects:
        rate = statistics.median(rate for rate, _ in rates[subject])
        processor = statistics.median(cost for _, cost in rates[subject])
        wait = statistics.median(sleeps[subject])
        table.add_row(subject.label, f"{rate:,.0f}", f"{processor:,.0f}", f"{wait:.1f} s", f"{last / rate:.2f} ×")
    Console().print(table)


if __name__ == "__main__":
    main()
