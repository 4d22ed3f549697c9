"""A worker that can be asked how it is."""

import asyncio
import logging
import logging.config
import os
import sys
from pathlib import Path

from celery import Celery
from pico_ioc import DictSource, component, configuration, init

from pico_celery import run_blocking, task

logger = logging.getLogger("shop")


@component
class Database:
    """A singleton whose health is asked for."""

    name = "database"

    def check(self) -> bool:
        return not Path(os.environ["TEST_DOWN"]).exists()


@component(scope="prototype")
class Tasks:
    def __init__(self, database: Database) -> None:
        self.database = database

    @task("observed.wait")
    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    @task("observed.fail")
    async def fail(self) -> None:
        raise LookupError("no such order")

    @task("observed.write")
    async def write(self) -> None:
        await asyncio.gather(self._write("child"))
        await run_blocking(logger.warning, "blocking")

    async def _write(self, text: str) -> None:
        logger.warning(text)


settings = {
    "broker_url": os.environ["TEST_BROKER_URL"],
    "backend_url": os.environ["TEST_BACKEND_URL"],
    "pico_http_port": int(os.environ["TEST_HTTP_PORT"]),
    "pico_http_host": os.environ["TEST_HTTP_HOST"],
}
logging.config.dictConfig(
    {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"task": {"()": "pico_celery.TaskLogFilter"}},
        "formatters": {"line": {"format": "SHOP %(task_name)s[%(task_id)s] of %(root_id)s: %(message)s"}},
        "handlers": {"shop": {"class": "logging.StreamHandler", "filters": ["task"], "formatter": "line"}},
        "loggers": {"shop": {"handlers": ["shop"], "propagate": False}},
    }
)
container = init(modules=["pico_celery", sys.modules[__name__]], config=configuration(DictSource({"celery": settings})))
app = container.get(Celery)
