"""Sends for one contender, in a process of its own: fills the queue, measures publishing, or round trips.

Prints what it has measured as JSON.
"""

import asyncio
import importlib
import json
import statistics
import sys
import time
from typing import Any

from rich.console import Console

_COROUTINES = 100


async def _send(app: Any, count: int, name: str, *args: float) -> None:
    numbers = iter(range(count))

    async def send_some() -> None:
        for _ in numbers:
            await app.send(name, *args)

    await asyncio.gather(*(send_some() for _ in range(_COROUTINES)))


async def fill(app: Any, count: int, *wait: float) -> dict[str, float]:
    """Fill the queue, with no-op tasks or with tasks that wait."""
    await _send(app, count, "wait" if wait else "noop", *wait)
    return {}


async def publish(app: Any, count: int) -> dict[str, float]:
    """Measure how many tasks a second 100 coroutines send."""
    await _send(app, count // 10, "noop")
    began, processor = time.perf_counter(), time.process_time()
    await _send(app, count, "noop")
    return {
        "rate": count / (time.perf_counter() - began),
        "processor": (time.process_time() - processor) / count * 1e6,
    }


async def publish_now(app: Any, count: int) -> dict[str, float]:
    """Measure how many tasks a second a plain loop sends."""
    for _ in range(count // 10):
        app.send_now()
    began = time.perf_counter()
    for _ in range(count):
        app.send_now()
    return {"rate": count / (time.perf_counter() - began)}


async def round_trips(app: Any, count: int) -> dict[str, float]:
    """Measure how long it takes from a call to its result, one after the other, in milliseconds."""
    took = []
    for _ in range(count + count // 10):
        began = time.perf_counter()
        await app.result_of(await app.send("noop"))
        took.append((time.perf_counter() - began) * 1e3)
    return {"median": statistics.median(took[count // 10 :])}


async def _run(module: str, what: str, count: str, *args: str) -> None:
    app = importlib.import_module(module)
    await app.start()
    try:
        told = await globals()[what](app, int(count), *map(float, args))
    finally:
        await app.stop()
    Console(soft_wrap=True, highlight=False).print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(_run(*sys.argv[1:]))
