"""Tasks that are interrupted, and those that take it badly."""

import asyncio
import time

from celery.exceptions import SoftTimeLimitExceeded
from pico_ioc import component

from pico_celery import TaskContext, task
from tests.integration.apps.recording import Records


@component(scope="prototype")
class InterruptionTasks:
    def __init__(self, records: Records, context: TaskContext) -> None:
        self.records = records
        self.context = context

    @task("interruptions.caught", soft_time_limit=2)
    async def caught(self) -> str:
        try:
            await asyncio.sleep(30)
        except SoftTimeLimitExceeded:
            await asyncio.sleep(0.01)
            return "caught, and awaited"
        return "not interrupted"

    @task("interruptions.in_time", soft_time_limit=20, time_limit=30)
    async def in_time(self) -> str:
        await asyncio.sleep(0.01)
        return "in time"

    @task("interruptions.swallow")
    async def swallow(self) -> None:
        """Not let go, whatever comes, until closed."""
        self.records.add(self.context.id, "body")
        try:
            while True:
                try:
                    await asyncio.sleep(30)
                except asyncio.CancelledError:
                    self.records.add(self.context.id, "swallowed")
        finally:
            self.records.add(self.context.id, "finally")

    @task("interruptions.compute")
    async def compute(self, seconds: float) -> None:
        """Hold up the loop."""
        _spin_for(seconds)

    @task("interruptions.leave_tasks")
    async def leave_tasks(self) -> None:
        self.left = [asyncio.create_task(self._left(), name="left behind") for _ in range(3)]
        await asyncio.sleep(0)

    async def _left(self) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            self.records.add(self.context.id, "left task ended")

    @task("interruptions.others")
    async def others(self) -> list[str]:
        """The asyncio tasks of the loop that were started by an execution that is over."""
        return [str(other) for other in asyncio.all_tasks() if "leave_tasks" in other.get_name()]


def _spin_for(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
