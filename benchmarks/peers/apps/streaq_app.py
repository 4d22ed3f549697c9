"""streaq, which keeps queue and results in one Redis database."""

import asyncio

from streaq import Worker

from benchmarks.peers.apps import settings
from benchmarks.peers.apps.tally import tally

worker = Worker(redis_url=settings.BROKER, concurrency=settings.CONCURRENCY)


@worker.task(ttl=600)
async def noop() -> None:
    tally.end()


@worker.task(ttl=600)
async def wait(seconds: float) -> None:
    tally.begin()
    await asyncio.sleep(seconds)
    tally.end()


TASKS = {"noop": noop, "wait": wait}
WORKER = ("streaq", "run", f"{__name__}:worker")


async def send(name: str, *args: float) -> object:
    """Send a task."""
    return await TASKS[name].enqueue(*args)


async def result_of(sent: object) -> object:
    """Wait for a task."""
    return await sent.result(60)  # type: ignore[attr-defined]  # a Task


async def start() -> None:
    """Open the connections."""
    await worker.__aenter__()


async def stop() -> None:
    """Close the connections."""
    await worker.__aexit__(None, None, None)
