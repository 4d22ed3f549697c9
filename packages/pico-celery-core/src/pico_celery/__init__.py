"""The front door: every public name of pico-celery, from whichever of its packages is installed."""

from typing import TYPE_CHECKING, Final

import pico_celery_core as _core
from pico_celery._forwarding import forward

if TYPE_CHECKING:
    from pico_celery_client import (
        CeleryClient,
        CeleryClientInterceptor,
        TaskResult,
        celery,
        gather_results,
        with_options,
    )
    from pico_celery_core import (
        CeleryFactory,
        CelerySettings,
        Progress,
        SendOptions,
        Sensitive,
        TaskOptions,
        send_task,
        task,
    )
    from pico_celery_worker import AsyncTask, PicoTaskRegistrar, TaskContext, run_blocking

__all__ = [
    "AsyncTask",
    "CeleryClient",
    "CeleryClientInterceptor",
    "CeleryFactory",
    "CelerySettings",
    "PicoTaskRegistrar",
    "Progress",
    "SendOptions",
    "Sensitive",
    "TaskContext",
    "TaskOptions",
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
    "SendOptions": "pico_celery_core",
    "Sensitive": "pico_celery_core",
    "TaskContext": "pico_celery_worker",
    "TaskOptions": "pico_celery_core",
    "TaskResult": "pico_celery_client",
    "celery": "pico_celery_client",
    "gather_results": "pico_celery_client",
    "run_blocking": "pico_celery_worker",
    "send_task": "pico_celery_core",
    "task": "pico_celery_core",
    "with_options": "pico_celery_client",
}


__getattr__ = forward(globals(), _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
