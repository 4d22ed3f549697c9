"""What is imported before a worker starts leaves Celery's consumer alone.

The consumer binds `build_tracer` when it is imported, which Sentry replaces, and from then on replaces it in vain.
"""

import subprocess
import sys

import pytest

from tests.integration.workers import ROOT

# As Celery loads its commands, in every process that starts with `celery`.
COMMANDS = """
from importlib.metadata import entry_points
for command in entry_points(group="celery.commands"):
    command.load()
import celery.bin.celery
"""

APP = """
from celery import Celery
from pico_ioc import DictSource, component, configuration, init
from pico_celery import CeleryClient, TaskContext, celery, run_blocking, send_task, task, with_options
import pico_celery.components, pico_celery.errors, pico_celery_client, pico_celery_core, pico_celery_worker

@component(scope="prototype")
class Tasks:
    @task("start.run")
    async def run(self) -> None: ...

settings = configuration(DictSource({"celery": {"broker_url": "memory://", "backend_url": None}}))
app = init(modules=["pico_celery", __name__], config=settings).get(Celery)
app.finalize()
assert app.tasks["start.run"]
"""


@pytest.mark.parametrize("code", [COMMANDS, APP], ids=["commands", "app"])
def test_the_consumer_is_imported_by_a_worker_that_starts_and_by_nothing_before(code):
    code += "import sys; print([name for name in sys.modules if name.startswith('celery.worker.consumer')])"
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert ended.stdout.strip() == "[]", ended.stdout + ended.stderr
