"""saq, which keeps queue and results in one Redis database."""

import asyncio
from contextlib import suppress
from typing import Any

from redis.asyncio import Redis
from saq.queue.redis import RedisQueue

from benchmarks.peers.apps import settings
from benchmarks.peers.apps.tally import tally

# As many connections as tasks at once, and some: redis-py allows 100.
queue = RedisQueue(Redis.from_url(settings.BROKER, max_connections=settings.CONCURRENCY + 100))


async def noop(_: Any) -> None:
    tally.end()


async def wait(_: Any, *, seconds: float) -> None:
    tally.begin()
    await asyncio.sleep(seconds)
    tally.end()


worker = {"queue": queue, "functions": [noop, wait], "concurrency": settings.CONCURRENCY}
WORKER = ("saq", f"{__name__}.worker", "--quiet")


async def send(name: str, *args: float) -> object:
    """Send a task."""
    return await queue.enqueue(name, **({"seconds": args[0]} if args else {}), retries=1, timeout=60)


async def result_of(sent: object) -> object:
    """Wait for a task; of one that has ended just before, nothing wakes who waits."""
    job: Any = sent
    while not job.completed:
        with suppress(TimeoutError):
            await job.refresh(0.5)
    return job.result


async def start() -> None:
    """Open the connections."""
    await queue.connect()


async def stop() -> None:
    """Close the connections."""
    await queue.disconnect()
