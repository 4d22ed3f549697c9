"""Runs Celery tasks that are async methods of injected components."""

from pico_celery_worker.blocking import run_blocking
from pico_celery_worker.context import TaskContext
from pico_celery_worker.registrar import PicoTaskRegistrar
from pico_celery_worker.task import AsyncTask

__all__ = ["AsyncTask", "PicoTaskRegistrar", "TaskContext", "run_blocking"]

__version__ = "0.1.0"
