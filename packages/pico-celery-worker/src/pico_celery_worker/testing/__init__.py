"""Real tasks in tests: no broker, no worker process."""

from pico_celery_worker.testing.deliveries import assert_redeliverable
from pico_celery_worker.testing.runner import TaskRunner, TasksStillRunError
from pico_celery_worker.testing.scope import OpenTaskScope, task_scope

__all__ = ["OpenTaskScope", "TaskRunner", "TasksStillRunError", "assert_redeliverable", "task_scope"]
