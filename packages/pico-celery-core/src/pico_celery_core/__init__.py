"""Declarations, settings and errors that the client and the worker of pico-celery share.

Importing it imports neither Celery nor pico-ioc: what needs them is loaded when it is first asked for.
"""

from typing import TYPE_CHECKING, Any

from pico_celery_core._conflict import refuse_clash

refuse_clash()

from pico_celery_core.context_variables import ContextVariableInterceptor  # noqa: E402
from pico_celery_core.decorators import send_task, task  # noqa: E402
from pico_celery_core.metadata import SendSpec, TaskSpec, handlers, send_spec, stubs, task_spec  # noqa: E402
from pico_celery_core.options import SendOptions, TaskOptions  # noqa: E402
from pico_celery_core.progress import Progress  # noqa: E402
from pico_celery_core.schedules import schedule  # noqa: E402
from pico_celery_core.sensitive import Sensitive  # noqa: E402

if TYPE_CHECKING:
    from pico_celery_core.app import CeleryFactory
    from pico_celery_core.settings import CelerySettings

__all__ = [
    "CeleryFactory",
    "CelerySettings",
    "ContextVariableInterceptor",
    "Progress",
    "SendOptions",
    "SendSpec",
    "Sensitive",
    "TaskOptions",
    "TaskSpec",
    "handlers",
    "schedule",
    "send_spec",
    "send_task",
    "stubs",
    "task",
    "task_spec",
]

__version__ = "0.3.0"


def __getattr__(name: str) -> Any:
    if name == "CeleryFactory":
        from pico_celery_core.app import CeleryFactory

        return CeleryFactory
    if name == "CelerySettings":
        from pico_celery_core.settings import CelerySettings

        return CelerySettings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
