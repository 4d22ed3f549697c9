"""Tasks that wait, and record how they begin and end, while their worker is stopped, killed and cut off."""

import asyncio
import ctypes
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from celery import Celery
from celery.worker.control import control_command
from kombu import Queue
from pico_ioc import DictSource, component, configuration, init

from pico_celery import TaskContext, task
from tests.integration.apps.recording import Records


@component(lazy=True)
class Resource:
    """A singleton that is made on the loop, and has to be closed once."""

    def __init__(self, records: Records) -> None:
        self.records = records

    async def __ainit__(self) -> None:
        self.records.add("resource", f"made {os.getpid()}")

    async def __aclose__(self) -> None:
        await asyncio.sleep(0)
        self.records.add("resource", f"closed {os.getpid()}")


@component(scope="task")
class Trail:
    """Records the beginning of an execution, and its clean-up."""

    def __init__(self, records: Records, context: TaskContext, resource: Resource) -> None:
        self.records = records
        self.context = context
        self.resource = resource

    def add(self, what: str) -> None:
        self.records.add(self.context.id, what)

    async def __aclose__(self) -> None:
        await asyncio.sleep(0)
        self.add("cleaned up")


@component(scope="task")
class SlowToClean:
    """A clean-up that never ends."""

    def __init__(self, trail: Trail) -> None:
        self.trail = trail

    async def __aclose__(self) -> None:
        self.trail.add("hanging")
        await asyncio.sleep(600)


@component(scope="prototype")
class EnduranceTasks:
    def __init__(self, trail: Trail) -> None:
        self.trail = trail

    async def _hold(self, key: str, seconds: float = 600) -> str:
        """Wait until the test lets go of the key, or for so long."""
        self.trail.add("began")
        try:
            async with asyncio.timeout(seconds):
                await self.trail.records.all_arrived(key)
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            self.trail.add("cancelled")
            raise
        self.trail.add("finished")
        return key

    @task("endurance.early")
    async def early(self, key: str, seconds: float = 600) -> str:
        return await self._hold(key, seconds)

    @task("endurance.late", acks_late=True)
    async def late(self, key: str, seconds: float = 600) -> str:
        return await self._hold(key, seconds)

    @task("endurance.large", acks_late=True)
    async def large(self, key: str, size: int) -> str:
        """Return so many characters."""
        await self._hold(key)
        return "x" * size

    @task("endurance.swallow", acks_late=True)
    async def swallow(self) -> None:
        """Not let go, whatever comes, until closed."""
        self.trail.add("began")
        while True:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                self.trail.add("swallowed")

    @task("endurance.kill", acks_late=True)
    async def kill(self) -> None:
        """End the worker's process, as one that takes more memory than there is."""
        self.trail.add("began")
        os.kill(os.getpid(), signal.SIGKILL)

    @task("endurance.block")
    async def block(self, seconds: float) -> None:
        """Hold up the loop."""
        self.trail.add("began")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass
        self.trail.add("finished")

    @task("endurance.block_until", acks_late=True)
    async def block_until(self, path: str) -> None:
        """Hold up the loop, in a library that nobody has patched, until a file is there."""
        self.trail.add("began")
        _wait_for_file(Path(path))
        self.trail.add("finished")


def _wait_for_file(path: Path) -> None:
    while not path.exists():
        ctypes.CDLL(None).poll(None, 0, 50)


@component(scope="prototype")
class SlowToCleanTasks:
    def __init__(self, slow: SlowToClean) -> None:
        self.slow = slow

    @task("endurance.hang_in_cleanup", acks_late=True)
    async def hang_in_cleanup(self) -> None:
        self.slow.trail.add("began")
        await asyncio.sleep(600)


@control_command()  # type: ignore[untyped-decorator]
def acknowledge_what_was_never_delivered(state: Any) -> None:
    """Have RabbitMQ close the channel by which messages come."""
    state.consumer.task_consumer.channel.basic_ack(99999)


_queue = os.environ.get("TEST_QUEUE", "celery")
_arguments = {"x-queue-type": "quorum"} if os.environ.get("TEST_QUORUM") else {}
settings = {
    "broker_url": os.environ["TEST_BROKER_URL"],
    "backend_url": os.environ.get("TEST_RESULTS_URL") or os.environ["TEST_BACKEND_URL"],
    "task_default_queue": _queue,
    "pico_dead_letters_queue": f"{_queue}-dead",
    "task_queues": [Queue(_queue, routing_key=_queue, queue_arguments=_arguments)],
    "worker_enable_remote_control": False,
    "pico_cancel_timeout": 1,
    "pico_cleanup_timeout": 1,
    **json.loads(os.environ.get("TEST_SETTINGS", "{}")),
}
container = init(
    modules=["pico_celery", "tests.integration.apps.recording", __name__],
    config=configuration(DictSource({"celery": settings})),
)
app = container.get(Celery)
