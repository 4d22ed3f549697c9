"""What becomes of a gevent worker under a mixed load, sampled over time: memory, connections, descriptors, lag, rate.

Beside it runs a worker with Celery's own sync tasks, to tell what is Celery's from what is ours. Growth is measured
between the end of the warm-up, the first third of the time, and the end.
"""

import argparse
import itertools
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from subprocess import Popen
from typing import Any

import redis
from celery import Celery

from benchmarks.workers import EMPTY_DATABASE, Subject, empty_database, memory, running

# How many of each kind of task stand in a batch.
OURS = {"quick": 60, "wait": 15, "echo": 5, "fail": 8, "retry": 5, "limit": 2, "group": 3, "progress": 2}
BARE = {"quick": 65, "wait": 17, "echo": 5, "fail": 8, "retry": 5}

MIXED = Subject("mixed", "mixed")

_QUEUED = 400
_WARM_UP = 3
_PAYLOAD = "x" * 20_000


@dataclass(frozen=True)
class Sample:
    """A worker at one moment."""

    seconds: float
    memory: float
    """Resident, in MiB."""
    connections: int
    """To Redis."""
    descriptors: int
    asyncio_tasks: int
    lag: float
    """How late the event loop was at worst, in milliseconds."""
    tasks: int
    """Done so far."""


@dataclass
class Load:
    """A worker and what it is given to do.

    Args:
        label: What it is called in the table.
        mix: The kinds of tasks, and how many of each.
        prefix: What their names begin with.
        url: An empty Redis database, for the worker alone.
    """

    label: str
    mix: dict[str, int]
    prefix: str
    url: str
    samples: list[Sample] = field(default_factory=list)

    @contextmanager
    def started(self, concurrency: int) -> Iterator[None]:
        """Run the worker until the block ends."""
        # Without a result backend of its own: it would subscribe to each result.
        self._app = Celery("endurance", broker=self.url, set_as_current=False)
        self._redis = redis.Redis.from_url(self.url)
        self._redis.flushdb()
        self._batch = [f"{self.prefix}.{kind}" for kind, count in self.mix.items() for _ in range(count)]
        self._worker: Popen[bytes]
        with self._redis, running(MIXED, self.url, concurrency) as self._worker:
            try:
                while self._stats() is None:
                    time.sleep(0.1)
                self._began = time.monotonic()
                yield
            finally:
                self._app.close()
        self._redis.flushdb()

    def feed(self) -> None:
        """Fill the queue up."""
        with self._app.producer_pool.acquire() as producer:
            while int(self._redis.llen("celery")) < _QUEUED:
                random.shuffle(self._batch)
                for name in self._batch:
                    args = [_PAYLOAD] if name.endswith("echo") else []
                    self._app.send_task(name, args, producer=producer, ignore_result=False)

    def sample(self) -> None:
        """Look at the worker."""
        stats = self._stats()
        if stats is None:
            return
        ours = stats["pico_celery"]
        database = self.url.rpartition("/")[2]
        process = Path(f"/proc/{self._worker.pid}")
        self.samples.append(
            Sample(
                seconds=time.monotonic() - self._began,
                memory=memory(self._worker),
                connections=sum(client["db"] == database for client in self._redis.client_list()),
                descriptors=sum(1 for _ in (process / "fd").iterdir()),
                asyncio_tasks=ours["asyncio_tasks"],
                lag=(ours["loop_lag"] or {}).get("worst", 0) * 1000,
                tasks=sum(stats["total"].values()),
            )
        )

    def _stats(self) -> Any:
        replies = self._app.control.inspect(timeout=3, limit=1).stats()
        stats = next(iter(replies.values())) if replies else None
        # A worker that somebody else has left on this database may answer too.
        return stats if stats and stats["pid"] == self._worker.pid else None


def endure(loads: Sequence[Load], seconds: float, samples: int, concurrency: int = 100) -> None:
    """Let workers run for some time.

    Args:
        loads: The workers; they get their samples.
        seconds: For how long.
        samples: How many to take.
        concurrency: How many tasks each has in flight at most.
    """
    with ExitStack() as stack:
        for load in loads:
            stack.enter_context(load.started(concurrency))
        began = time.monotonic()
        for number in itertools.count(1):
            due = began + seconds * number / samples
            while time.monotonic() < due:
                for load in loads:
                    load.feed()
                time.sleep(0.02)
            for load in loads:
                load.sample()
            if number == samples:
                return


def steady(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Return the samples after the warm-up."""
    return samples[len(samples) // _WARM_UP :]


def growth(samples: Sequence[Sample], value: Callable[[Sample], float]) -> float:
    """Return by how much a value has grown since the warm-up, from the median of a quarter to that of the last."""
    settled = steady(samples)
    part = max(len(settled) // 4, 1)
    return statistics.median(map(value, settled[-part:])) - statistics.median(map(value, settled[:part]))


def done(samples: Sequence[Sample]) -> int:
    """Return how many tasks were done since the warm-up."""
    return samples[-1].tasks - steady(samples)[0].tasks


def rates(samples: Sequence[Sample]) -> list[float]:
    """Return the tasks a second between each two samples."""
    pairs = itertools.pairwise(samples)
    return [(new.tasks - old.tasks) / (new.seconds - old.seconds) for old, new in pairs]


def report(load: Load) -> str:
    """Return a load's samples as a table, of at most twenty lines, and what has grown."""
    names = [each.name for each in fields(Sample)]
    step = max(len(load.samples) // 20, 1)
    lines = [load.label, " ".join(f"{name:>13}" for name in names)]
    for sample in load.samples[::step]:
        lines.append(" ".join(f"{float(getattr(sample, name)):>13.1f}" for name in names))  # noqa: PERF401
    count = done(load.samples)
    grown = growth(load.samples, lambda sample: sample.memory)
    lines.append(
        f"{count:,} tasks after the warm-up, {statistics.median(rates(load.samples)):,.0f} a second; memory grew by "
        f"{grown:.2f} MiB, {grown * 2**20 / max(count, 1):.1f} bytes a task"
    )
    return "\n".join(lines)


def plot(loads: Sequence[Load], path: Path) -> None:
    """Draw the samples over time."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    panels: list[tuple[str, Callable[[list[Sample]], list[float]]]] = [
        ("resident memory, MiB", lambda samples: [s.memory for s in samples]),
        ("tasks a second", lambda samples: [0.0, *rates(samples)]),
        ("connections to Redis", lambda samples: [s.connections for s in samples]),
        ("open descriptors", lambda samples: [s.descriptors for s in samples]),
        ("asyncio tasks", lambda samples: [s.asyncio_tasks for s in samples]),
        ("worst loop lag so far, ms", lambda samples: [s.lag for s in samples]),
    ]
    figure, axes = plt.subplots(3, 2, figsize=(12, 9), sharex=True, layout="constrained")
    for axis, (title, values) in zip(axes.flat, panels, strict=True):
        for load in loads:
            axis.plot([s.seconds / 60 for s in load.samples], values(load.samples), label=load.label)
        axis.set_title(title)
        axis.set_ylim(0, axis.get_ylim()[1] * 1.1)
        axis.grid(alpha=0.3)
    for axis in axes[-1]:
        axis.set_xlabel("minutes")
    axes[0, 0].legend()
    figure.savefig(path, dpi=100)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--url", type=empty_database, default="", help=EMPTY_DATABASE)
    parser.add_argument("--bare-url", type=empty_database, default="", help=f"for Celery: {EMPTY_DATABASE}")
    parser.add_argument("--alone", action="store_true", help="without Celery beside it")
    parser.add_argument("--plot", type=Path, default=Path("endurance.png"))
    options = parser.parse_args(arguments)

    loads = [Load("pico-celery, mixed", OURS, "mixed", options.url)]
    if not options.alone:
        loads.append(Load("Celery, sync tasks", BARE, "bare", options.bare_url))
    endure(loads, options.minutes * 60, samples=max(int(options.minutes * 12), 20))
    for load in loads:
        print(report(load), end="\n\n")
    plot(loads, options.plot)
    print(f"Drawn in {options.plot}")


if __name__ == "__main__":
    main()
