"""Tasks for Celery's canvas, and for what a client sees of a task on its way."""

import asyncio
from typing import Any, NoReturn

from celery import current_task
from pico_ioc import component

from pico_celery import TaskContext, task
from tests.integration.apps.recording import Records


@component(scope="prototype")
class CanvasTasks:
    def __init__(self, records: Records, context: TaskContext) -> None:
        self.records = records
        self.context = context

    @task("canvas.add")
    async def add(self, a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a + b

    @task("canvas.total")
    async def total(self, numbers: list[int]) -> int:
        return sum(numbers)

    @task("canvas.fail")
    async def fail(self, *_: Any) -> NoReturn:
        raise ValueError("on purpose")

    @task("canvas.record")
    async def record(self, value: Any, key: str) -> None:
        self.records.add(key, str(value))

    @task("canvas.on_error")
    async def on_error(self, failed: str, key: str) -> None:
        """An errback, which is given the id of what failed."""
        self.records.add(key, failed)

    @task("canvas.fan_out")
    async def fan_out(self) -> str:
        """Send a task from inside a task."""
        return current_task.app.send_task("canvas.family").id

    @task("canvas.family", ignore_result=False)
    async def family(self, *_: Any) -> dict[str, Any]:
        """Everything the context knows."""
        context = self.context
        deadline = context.deadline
        return {
            "id": context.id,
            "name": context.name,
            "args": list(context.args),
            "kwargs": dict(context.kwargs),
            "retries": context.retries,
            "max_retries": context.max_retries,
            "parent_id": context.parent_id,
            "root_id": context.root_id,
            "redelivered": context.redelivered,
            "headers": dict(context.headers),
            "deadline": None if deadline is None else deadline.timestamp(),
            "priority": current_task.request.delivery_info["priority"],
        }

    @task("canvas.redelivered", acks_late=True)
    async def redelivered(self, key: str) -> bool:
        """Wait for ever the first time; tell whether it was delivered before the second."""
        self.records.add(key, "delivered")
        if not self.context.redelivered:
            await asyncio.sleep(60)
        return self.context.redelivered

    @task("canvas.progress")
    async def progress(self, key: str) -> str:
        """Show progress until someone has seen it."""
        await self.context.progress(3, 10, "half-way, almost")
        await self.records.all_arrived(key)
        return "done"

    @task("canvas.hold")
    async def hold(self, key: str) -> str:
        """Run until someone lets go."""
        self.records.add(self.context.id, "body")
        await self.records.all_arrived(key)
        return "let go"

    @task("canvas.ignored", ignore_result=True)
    async def ignored(self) -> int:
        self.records.add(self.context.id, "body")
        return 1

    @task("canvas.late", acks_late=True)
    async def late(self) -> int:
        return 1

    @task("canvas.signalled", max_retries=1)
    async def signalled(self, outcome: str) -> str:
        if outcome == "retry" and not self.context.retries:
            self.context.retry(countdown=0)
        if outcome == "fail":
            raise ValueError("on purpose")
        return outcome
