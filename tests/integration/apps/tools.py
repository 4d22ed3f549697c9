"""Tasks that tools beside the worker look at."""

import asyncio
import os
from typing import Annotated

from celery import Celery
from pico_ioc import DictSource, component, configuration, init

from pico_celery import Sensitive, task


@component(scope="prototype")
class WatchedTasks:
    @task("watched.wait")
    async def wait(self, user: str, secret: Annotated[str, Sensitive]) -> None:
        await asyncio.Event().wait()

    @task("watched.add")
    async def add(self, one: int, other: int) -> int:
        return one + other


settings = {"broker_url": os.environ["TEST_BROKER_URL"], "backend_url": os.environ["TEST_BACKEND_URL"]}
container = init(modules=["pico_celery", __name__], config=configuration(DictSource({"celery": settings})))
app = container.get(Celery)
