"""The same tasks with pico-celery: async, in a component with three injected prototypes."""

import asyncio
import os
import sys

from celery import Celery
from pico_ioc import DictSource, component, configuration, init

from pico_celery import task


@component
class Settings:
    pass


@component(scope="prototype")
class Orders:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings


@component(scope="prototype")
class Mails:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings


@component(scope="prototype")
class Audit:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings


@component(scope="prototype")
class BenchTasks:
    def __init__(self, orders: Orders, mails: Mails, audit: Audit) -> None:
        self.orders, self.mails, self.audit = orders, mails, audit

    @task("bench.noop")
    async def noop(self) -> None:
        pass

    @task("bench.sleep")
    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


settings = {
    "broker_url": os.environ["BENCH_BROKER"],
    "backend_url": os.environ["BENCH_BACKEND"],
    # As bare Celery has it: each state that is stored is another command to Redis.
    "task_track_started": False,
    "worker_enable_remote_control": False,
}
container = init(modules=["pico_celery", sys.modules[__name__]], config=configuration(DictSource({"celery": settings})))
app = container.get(Celery)
