"""The front door: every public name of pico-celery, from whichever of its packages is installed."""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import pico_celery_core as _core

if TYPE_CHECKING:
    from pico_celery_client import (
        CeleryClient,
        CeleryClientInterceptor,
        TaskResult,
        celery,
        gather_results,
        with_options,
    )
    from pico_celery_core import CeleryFactory, CelerySettings, Progress, Sensitive, send_task, task
    from pico_celery_worker import AsyncTask, PicoTaskRegistrar, TaskContext, run_blocking

__all__ = [
    "AsyncTask",
    "CeleryClient",
    "CeleryClientInterceptor",
    "CeleryFactory",
    "CelerySettings",
    "PicoTaskRegistrar",
    "Progress",
    "Sensitive",
    "TaskContext",
    "TaskResult",
    "celery",
    "gather_results",
    "run_blocking",
    "send_task",
    "task",
    "with_options",
]

__version__ = _core.__version__

_HOMES: Final = {
    "AsyncTask": "pico_celery_worker",
    "CeleryClient": "pico_celery_client",
    "CeleryClientInterceptor": "pico_celery_client",
    "CeleryFactory": "pico_celery_core",
    "CelerySettings": "pico_celery_core",
    "PicoTaskRegistrar": "pico_celery_worker",
    "Progress": "pico_celery_core",
    "Sensitive": "pico_celery_core",
    "TaskContext": "pico_celery_worker",
    "TaskResult": "pico_celery_client",
    "celery": "pico_celery_client",
    "gather_results": "pico_celery_client",
    "run_blocking": "pico_celery_worker",
    "send_task": "pico_celery_core",
    "task": "pico_celery_core",
    "with_options": "pico_celery_client",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if find_spec(home) is None:
        distribution = home.replace("_", "-")
        raise ImportError(f"{name} needs {distribution}: pip install {distribution}", name=home)
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
