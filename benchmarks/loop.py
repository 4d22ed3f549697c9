"""What it costs to run a coroutine from a greenlet on the worker's loop, beside a greenlet that only spawns another."""

from gevent import monkey

monkey.patch_all()

import asyncio  # noqa: E402
import statistics  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any  # noqa: E402

from gevent.pool import Pool  # noqa: E402

from pico_celery_worker.loop.gevent import GeventRunner  # noqa: E402

TASKS, CONCURRENCY, ROUNDS = 5000, 100, 15


async def nothing() -> None:
    await asyncio.sleep(0)


def microseconds(call: Callable[[], Any]) -> float:
    """Return the processor time of one call, among 100 at a time."""
    pool = Pool(CONCURRENCY)
    began = time.process_time()
    for _ in range(TASKS):
        pool.spawn(call)
    pool.join()
    return (time.process_time() - began) / TASKS * 1e6


def main() -> None:
    host = GeventRunner()
    pairs = [(microseconds(lambda: None), microseconds(lambda: host.run(nothing()))) for _ in range(ROUNDS)]
    host.close()
    bare, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(
        f"a bare greenlet {bare:.1f} µs, one that runs a coroutine on the loop {ours:.1f} µs: {ours - bare:.1f} µs more"
    )


if __name__ == "__main__":
    main()
