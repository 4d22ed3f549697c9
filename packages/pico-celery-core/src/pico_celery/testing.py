"""Test doubles: `RecordingCelery` for code that sends tasks, `TaskRunner` and `task_scope` for tasks."""

from typing import TYPE_CHECKING, Final

from pico_celery._forwarding import forward

if TYPE_CHECKING:
    from pico_celery_client.testing import Call, NoOutcomeError, RecordingCelery
    from pico_celery_worker.testing import OpenTaskScope, TaskRunner, TasksStillRunError, task_scope

__all__ = [
    "Call",
    "NoOutcomeError",
    "OpenTaskScope",
    "RecordingCelery",
    "TaskRunner",
    "TasksStillRunError",
    "task_scope",
]

_HOMES: Final = {
    "Call": "pico_celery_client.testing",
    "NoOutcomeError": "pico_celery_client.testing",
    "OpenTaskScope": "pico_celery_worker.testing",
    "RecordingCelery": "pico_celery_client.testing",
    "TaskRunner": "pico_celery_worker.testing",
    "TasksStillRunError": "pico_celery_worker.testing",
    "task_scope": "pico_celery_worker.testing",
}

# No `__dir__` names them: a container that scans this package would import all of them, in production too.
__getattr__ = forward(globals(), _HOMES)
