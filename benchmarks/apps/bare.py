"""Celery alone: sync tasks, which wait as gevent has patched them to."""

import os
import time

from celery import Celery

app = Celery("bare", broker=os.environ["BENCH_BROKER"], backend=os.environ["BENCH_BACKEND"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    worker_enable_remote_control=False,
    result_backend_thread_safe=os.environ.get("BENCH_SHARED_BACKEND") == "1",
)


@app.task(name="bench.noop")
def noop() -> None:
    pass


@app.task(name="bench.sleep")
def sleep(seconds: float) -> None:
    time.sleep(seconds)
