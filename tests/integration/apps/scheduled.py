"""An app from a container, with a periodic task that is set up as Celery's own documentation does it."""

import os
import sys
from typing import Any

from celery import Celery
from pico_ioc import DictSource, component, configuration, init

from pico_celery import task


@component(scope="prototype")
class Clocks:
    @task("scheduled.tick")
    async def tick(self, who: str) -> str:
        return f"tick for {who}"


settings = {
    "broker_url": os.environ.get("TEST_BROKER_URL", "memory://"),
    "backend_url": os.environ.get("TEST_BACKEND_URL", "cache+memory://"),
    "worker_enable_remote_control": False,
}
modules = ["pico_celery", sys.modules[__name__]]
app = init(modules=modules, config=configuration(DictSource({"celery": settings}))).get(Celery)


@app.on_after_configure.connect
def set_up_periodic_tasks(sender: Celery, **_: Any) -> None:
    sender.add_periodic_task(0.2, sender.signature("scheduled.tick", ("whom it may concern",)), name="tick")


@app.on_after_finalize.connect
def look_at_tasks(sender: Celery, **_: Any) -> None:
    sys.stderr.write(f"finalised with {'scheduled.tick' in sender.tasks}\n")
