"""taskiq, with the broker that the variant names."""

import asyncio

from taskiq import AsyncBroker
from taskiq_aio_pika import AioPikaBroker
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend, RedisStreamBroker

from benchmarks.peers.apps import settings
from benchmarks.peers.apps.tally import tally


def make_broker() -> AsyncBroker:
    """Make the broker of the variant."""
    if settings.VARIANT == "list":
        return ListQueueBroker(settings.BROKER)
    if settings.VARIANT == "stream":
        return RedisStreamBroker(settings.BROKER, consumer_id="0")
    return AioPikaBroker(
        settings.BROKER, queue_name="taskiq-peers", exchange_name="taskiq-peers", qos=settings.CONCURRENCY
    )


broker = make_broker().with_result_backend(RedisAsyncResultBackend(settings.RESULTS, result_ex_time=600))


@broker.task
async def noop() -> None:
    tally.end()


@broker.task
async def wait(seconds: float) -> None:
    tally.begin()
    await asyncio.sleep(seconds)
    tally.end()


TASKS = {"noop": noop, "wait": wait}
_options = ("--workers", "1", "--max-async-tasks", str(settings.CONCURRENCY), "--log-level", "WARNING")
WORKER = ("taskiq", "worker", f"{__name__}:broker", *_options)


async def send(name: str, *args: float) -> object:
    """Send a task."""
    return await TASKS[name].kiq(*args)


async def result_of(sent: object) -> object:
    """Wait for a task, asking as often as costs the least time."""
    return await sent.wait_result(check_interval=0.001, timeout=60)  # type: ignore[attr-defined]  # an AsyncTaskiqTask


async def start() -> None:
    """Open the connections."""
    await broker.startup()


async def stop() -> None:
    """Close the connections."""
    await broker.shutdown()
