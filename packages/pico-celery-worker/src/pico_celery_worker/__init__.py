"""Runs Celery tasks that are async methods of injected components."""

from pico_celery_worker.dead_letters.collection import DeadLetters
from pico_celery_worker.dead_letters.letter import DeadLetter
from pico_celery_worker.execution.context import TaskContext
from pico_celery_worker.execution.interceptors import TaskInterceptor
from pico_celery_worker.loop.blocking import run_blocking
from pico_celery_worker.observability.log_filter import TaskLogFilter
from pico_celery_worker.registrar import PicoTaskRegistrar
from pico_celery_worker.tasks.task import AsyncTask

__all__ = [
    "AsyncTask",
    "DeadLetter",
    "DeadLetters",
    "PicoTaskRegistrar",
    "TaskContext",
    "TaskInterceptor",
    "TaskLogFilter",
    "run_blocking",
]

__version__ = "0.3.0"
