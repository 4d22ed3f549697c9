"""Workers of `celery.contrib.testing` in the process of a test."""

import subprocess
import sys
import textwrap

import pytest

PRELUDE = """
import sys
from celery import Celery
from celery.contrib.testing.worker import start_worker
from pico_ioc import DictSource, cleanup, component, configuration, init
from pico_celery import task

@component
class Store:
    is_open = True

    @cleanup
    def close(self):
        self.is_open = False

@component(scope=SCOPE)
class Tasks:
    def __init__(self, store: Store):
        self.store = store

    @task("embedded.look")
    async def look(self):
        return self.store.is_open

settings = {"celery": {"broker_url": "memory://", "backend_url": "cache+memory://"}}

def make():
    config = configuration(DictSource(settings))
    return init(modules=["pico_celery", sys.modules["__main__"]], config=config).get(Celery)

def run(app):
    with start_worker(app, pool=POOL, perform_ping_check=False, shutdown_timeout=60):
        print(app.send_task("embedded.look").get(timeout=60))
"""


def run(script: str, **names: str) -> str:
    constants = "\n".join(f"{name} = {value!r}" for name, value in names.items())
    code = f"{constants}\n{textwrap.dedent(PRELUDE)}\n{textwrap.dedent(script)}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=90, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_a_second_worker_with_one_container_is_refused(pool: str) -> None:
    output = run("app = make(); run(app); run(app)", POOL=pool, SCOPE="prototype")
    assert output.startswith("True\n"), output
    assert "ContainerClosedError: The container of this worker was closed" in output
    assert output.count("True") == 1


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_each_worker_may_have_a_container(pool: str) -> None:
    assert run("run(make()); run(make())", POOL=pool, SCOPE="prototype") == "True\nTrue\n"


def test_a_worker_that_refuses_to_start_does_not_let_the_test_hang() -> None:
    output = run("run(make())", POOL="solo", SCOPE="prototyp")
    assert "ClosedScopeError: A task needs __main__.Tasks" in output
