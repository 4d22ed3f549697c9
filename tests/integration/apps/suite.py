"""The app that the shared worker of each pool runs."""

import os
from typing import Any

from celery import Celery, signals
from pico_ioc import DictSource, configuration, init

from tests.integration.apps.recording import Records

settings = {
    "broker_url": os.environ["TEST_BROKER_URL"],
    "backend_url": os.environ["TEST_BACKEND_URL"],
    "task_default_queue": os.environ.get("TEST_QUEUE", "celery"),
    "pico_dead_letters_queue": f"{os.environ.get('TEST_QUEUE', 'celery')}-dead",
    "worker_prefetch_multiplier": 1,
    "task_store_errors_even_if_ignored": True,
    "pico_cancel_timeout": 2,
    "pico_cleanup_timeout": 2,
    "pico_loop_lag_warning": 0.3,
    "beat_schedule": {"often": {"task": "canvas.record", "schedule": 0.1, "args": ["tick", "beat"]}},
}
container = init(
    modules=[
        "pico_celery",
        "tests.integration.apps.recording",
        "tests.integration.apps.outcomes",
        "tests.integration.apps.cleanups",
        "tests.integration.apps.interruptions",
        "tests.integration.apps.canvas",
    ],
    config=configuration(DictSource({"celery": settings})),
)
app = container.get(Celery)
records = container.get(Records)


def record(signal: str, task: Any, task_id: str) -> None:
    """Record a signal about the task that is there for it."""
    if task.name == "canvas.signalled":
        records.add(f"signals:{task_id}", signal)


@signals.task_prerun.connect
def prerun(task_id: str, task: Any, **_: Any) -> None:
    record("prerun", task, task_id)


@signals.task_postrun.connect
def postrun(task_id: str, task: Any, state: str | None = None, **_: Any) -> None:
    record("postrun", task, task_id)
    if task.name == "cleanups.sleep":
        records.add(f"ended:{task_id}", f"postrun {state}")


@signals.task_revoked.connect
def revoked(request: Any, terminated: bool, signum: Any, **_: Any) -> None:
    if terminated:
        records.add(f"ended:{request.id}", f"revoked {signum:d}")


@signals.task_success.connect
def success(sender: Any, **_: Any) -> None:
    record("success", sender, sender.request.id)


@signals.task_failure.connect
def failure(sender: Any, task_id: str, **_: Any) -> None:
    record("failure", sender, task_id)


@signals.task_retry.connect
def retry(sender: Any, request: Any, **_: Any) -> None:
    record("retry", sender, request.id)
