"""What newcomers forget: each worker starts with one such mistake, which TEST_OVERSIGHT names."""

import os
import sys

from celery import Celery
from pico_ioc import DictSource, component, configuration, init

from pico_celery import task

OVERSIGHT = os.environ.get("TEST_OVERSIGHT", "")


class Reminders:
    @task("oversights.remind")
    async def remind(self) -> str:
        return "reminded"


if OVERSIGHT in ("", "prototyp", "request"):
    component(scope=OVERSIGHT or "prototype")(Reminders)

broker, backend = os.environ.get("TEST_BROKER_URL", "memory://"), os.environ.get("TEST_BACKEND_URL", "cache+memory://")
settings = {"broker_url": broker, "backend_url": backend, "worker_enable_remote_control": False}
modules = ["pico_celery"] if OVERSIGHT == "module" else ["pico_celery", sys.modules[__name__]]
app = init(modules=modules, config=configuration(DictSource({"celery": settings}))).get(Celery)
if OVERSIGHT == "app":
    app = Celery("other", broker=broker)
