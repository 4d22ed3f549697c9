"""Celery alone: sync tasks, which wait as gevent has patched them to."""

import time

from celery import Celery

from benchmarks.peers.apps import settings
from benchmarks.peers.apps.tally import tally

app = Celery("peers", broker=settings.BROKER, backend=settings.RESULTS)
app.conf.update(
    task_default_queue="pico-celery-peers",
    broker_connection_retry_on_startup=True,
    worker_enable_remote_control=False,
    # With "shared" the greenlets share one result backend; as Celery comes, each makes its own.
    result_backend_thread_safe=settings.VARIANT == "shared",
    **settings.CONFIRMED,
)


@app.task(name="peers.noop")
def noop() -> None:
    tally.end()


@app.task(name="peers.wait")
def wait(seconds: float) -> None:
    tally.begin()
    time.sleep(seconds)
    tally.end()


TASKS = {"noop": noop, "wait": wait}
WORKER = ("celery", "-A", f"{__name__}:app", "worker", "-P", "gevent", "-c", str(settings.CONCURRENCY), "-l", "WARNING")


async def send(name: str, *args: float) -> object:
    """Send a task; the loop is held up, as Celery has nothing else."""
    return app.send_task(TASKS[name].name, args)


async def result_of(sent: object) -> object:
    """Wait for a task."""
    return sent.get(timeout=60)  # type: ignore[attr-defined]  # an AsyncResult


def send_now() -> None:
    """Send a no-op task, and wait meanwhile."""
    app.send_task("peers.noop")


async def start() -> None:
    """Nothing is to be opened before."""


async def stop() -> None:
    """Close the connections."""
    app.close()
