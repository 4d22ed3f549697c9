"""Real tasks in tests: no broker, no worker process."""

from pico_celery_worker.testing.runner import TaskRunner, TasksStillRunError

__all__ = ["TaskRunner", "TasksStillRunError"]
