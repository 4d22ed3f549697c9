"""All kinds of tasks, async ones of components and sync ones of Celery's own, for a worker that runs for long."""

import asyncio
import os
import sys
import time
from typing import Any

from celery import Celery, Task
from celery.exceptions import SoftTimeLimitExceeded
from pico_ioc import DictSource, cleanup, component, configuration, init

from pico_celery import TaskContext, task


@component(scope="task")
class UnitOfWork:
    async def __aclose__(self) -> None:
        await asyncio.sleep(0)


@component(scope="prototype")
class Orders:
    def __init__(self, work: UnitOfWork) -> None:
        self.work = work
        self.rows = list(range(100))

    @cleanup
    def forget(self) -> None:
        self.rows.clear()


@component(scope="prototype")
class MixedTasks:
    def __init__(self, orders: Orders, work: UnitOfWork, context: TaskContext) -> None:
        self.orders, self.work, self.context = orders, work, context

    @task("mixed.quick")
    async def quick(self) -> int:
        return len(self.orders.rows)

    @task("mixed.wait")
    async def wait(self) -> None:
        await asyncio.sleep(0.05)

    @task("mixed.echo")
    async def echo(self, value: str) -> str:
        return value

    @task("mixed.fail")
    async def fail(self) -> None:
        await asyncio.sleep(0)
        raise ValueError(self.context.id)

    @task("mixed.retry", max_retries=1)
    async def retry(self) -> None:
        if not self.context.retries:
            self.context.retry(countdown=0)

    @task("mixed.limit", soft_time_limit=0.05)
    async def limit(self) -> str:
        try:
            await asyncio.Event().wait()
        except SoftTimeLimitExceeded:
            await asyncio.sleep(0)
        return "cut off"

    @task("mixed.group")
    async def group(self) -> int:
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(asyncio.sleep(0.01, number)) for number in range(5)]
        return sum(one.result() for one in waiting)

    @task("mixed.progress")
    async def progress(self) -> None:
        await self.context.progress(1, 2)


settings = {
    "broker_url": os.environ["BENCH_BROKER"],
    "backend_url": os.environ["BENCH_BACKEND"],
    "result_expires": 30,
}
container = init(modules=["pico_celery", sys.modules[__name__]], config=configuration(DictSource({"celery": settings})))
app = container.get(Celery)


# The same, as far as Celery has it: for comparison, in a worker of its own.


@app.task(name="bare.quick")
def quick() -> int:
    return len(list(range(100)))


@app.task(name="bare.wait")
def wait() -> None:
    time.sleep(0.05)


@app.task(name="bare.echo")
def echo(value: str) -> str:
    return value


@app.task(name="bare.fail", bind=True)
def fail(self: Task) -> None:
    raise ValueError(self.request.id)


@app.task(name="bare.retry", bind=True, max_retries=1)
def retry(self: Task) -> Any:
    if not self.request.retries:
        raise self.retry(countdown=0)
