"""Handlers beside others that have event loops of their own in the same thread: Django, asgiref and plain tasks."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import django
from asgiref.sync import async_to_sync, sync_to_async
from celery import Celery
from django.conf import settings
from pico_ioc import DictSource, component, configuration, init

from pico_celery import run_blocking, task

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["TEST_DATABASE"]}},
    USE_TZ=True,
)
django.setup()

from django.db import models  # noqa: E402  # models want Django's settings


class Row(models.Model):
    name = models.TextField()

    class Meta:
        app_label = "beside"


def seen() -> list[str | None]:
    """Whose loop and hooks show here."""
    loop = asyncio._get_running_loop()
    owner = getattr(sys.get_asyncgen_hooks().firstiter, "__self__", None)
    return [type(loop).__name__ if loop else None, type(owner).__name__ if owner else None]


@asynccontextmanager
async def transaction(end: list[str]) -> AsyncIterator[None]:
    try:
        yield
    except BaseException as error:
        end.append(type(error).__name__)
        raise
    end.append("committed")


async def own_loop() -> str:
    end: list[str] = []
    async with transaction(end):
        time.sleep(0.001)  # noqa: ASYNC251  # patched: the greenlet leaves in the midst of a step
        await asyncio.sleep(0.001)
    return end[0]


@component(scope="prototype")
class Tasks:
    @task("beside.transaction")
    async def transaction(self) -> list[str]:
        end: list[str] = []
        async with transaction(end):
            await asyncio.to_thread(time.sleep, 0.001)
            end.append(await run_blocking(lambda: asyncio.run(own_loop())))
        return end

    @task("beside.django")
    async def orm(self, name: str) -> int:
        await Row.objects.acreate(name=name)
        return await Row.objects.filter(name=name).acount()

    @task("beside.asgiref")
    async def asgiref(self) -> list[str | None]:
        return await sync_to_async(seen)()

    @task("beside.to_thread")
    async def thread(self) -> list[str | None]:
        return await asyncio.to_thread(seen)


modules = ["pico_celery_worker", __name__]
celery = {"broker_url": os.environ["TEST_BROKER_URL"], "backend_url": os.environ["TEST_BACKEND_URL"]}
app = init(modules=modules, config=configuration(DictSource({"celery": celery}))).get(Celery)


@app.task(name="beside.plain_run")
def plain_run() -> str:
    return asyncio.run(own_loop())


@app.task(name="beside.plain_asgiref")
def plain_asgiref() -> str:
    return async_to_sync(own_loop)()


@app.task(name="beside.plain")
def plain() -> list[str | None]:
    time.sleep(0.001)
    return seen()
