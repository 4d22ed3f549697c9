"""The tasks that real workers run in integration tests."""

import asyncio
import os
import sys

from celery import Celery, current_task
from pico_ioc import DictSource, component, configuration, init

from pico_celery import task


@component
class Clock:
    """A singleton service."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@component(scope="prototype")
class BasicTasks:
    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    @task("basic.noop")
    async def noop(self) -> None:
        pass

    @task("basic.sleep")
    async def sleep(self, seconds: float) -> float:
        await self.clock.sleep(seconds)
        return seconds

    @task("basic.echo")
    async def echo(self, value: object, *, times: int = 1) -> list[object]:
        return [value] * times

    @task("basic.fail")
    async def fail(self, message: str) -> None:
        raise ValueError(message)

    @task("basic.ids")
    async def ids(self) -> list[str]:
        """The ids that Celery shows inside the coroutine, after an await, in child tasks and in a thread."""

        async def child() -> str:
            await asyncio.sleep(0.01)
            return str(current_task.request.id)

        first = current_task.request.id
        await asyncio.sleep(0.05)
        second = current_task.request.id
        children = await asyncio.gather(child(), child())
        threaded = await asyncio.to_thread(lambda: current_task.request.id)
        return [first, second, *children, threaded, BasicTasks.ids_task().request.id]

    @staticmethod
    def ids_task():
        return app.tasks["basic.ids"]


settings = {
    "broker_url": os.environ.get("TEST_BROKER_URL", "memory://"),
    "backend_url": os.environ.get("TEST_BACKEND_URL", "cache+memory://"),
    "task_default_queue": os.environ.get("TEST_QUEUE", "celery"),
    "pico_dead_letters_queue": f"{os.environ.get('TEST_QUEUE', 'celery')}-dead",
    "worker_enable_remote_control": False,
}
container = init(modules=["pico_celery", sys.modules[__name__]], config=configuration(DictSource({"celery": settings})))
app = container.get(Celery)
