"""pico-celery: a component with an injected prototype, and a typed client."""

import asyncio
import sys

from celery import Celery
from pico_ioc import DictSource, component, configuration, init

from benchmarks.peers.apps import settings
from benchmarks.peers.apps.tally import tally
from pico_celery import CeleryClient, celery, send_task, task


@component(scope="prototype")
class Orders:
    """What the tasks need."""


@component(scope="prototype")
class PeerTasks:
    def __init__(self, orders: Orders) -> None:
        self.orders = orders

    @task("peers.noop")
    async def noop(self) -> None:
        tally.end()

    @task("peers.wait")
    async def wait(self, seconds: float) -> None:
        tally.begin()
        await asyncio.sleep(seconds)
        tally.end()


@celery
class PeerClient(CeleryClient):
    @send_task("peers.noop")
    async def noop(self) -> None: ...

    @send_task("peers.noop")
    def noop_now(self) -> None: ...

    @send_task("peers.wait")
    async def wait(self, seconds: float) -> None: ...


_celery = {
    "broker_url": settings.BROKER,
    "backend_url": settings.RESULTS,
    "task_default_queue": "pico-celery-peers",
    "worker_enable_remote_control": False,
    "task_track_started": settings.VARIANT != "untracked",
    **settings.CONFIRMED,
}
container = init(modules=["pico_celery", sys.modules[__name__]], config=configuration(DictSource({"celery": _celery})))
app = container.get(Celery)
client = container.get(PeerClient)

WORKER = ("celery", "-A", f"{__name__}:app", "worker", "-P", "gevent", "-c", str(settings.CONCURRENCY), "-l", "WARNING")


async def send(name: str, *args: float) -> object:
    """Send a task."""
    return await getattr(client, name)(*args)


async def result_of(sent: object) -> object:
    """Wait for a task."""
    return await sent  # type: ignore[misc]  # a TaskResult


def send_now() -> None:
    """Send a no-op task, and wait meanwhile."""
    client.noop_now()


async def start() -> None:
    """Nothing is to be opened before."""


async def stop() -> None:
    """Close the connections."""
    app.close()
