"""The fields of log records about tasks, for handlers that write structured logs."""

from typing import Any


def log_fields(event: str, task_name: Any = None, task_id: Any = None) -> dict[str, Any]:
    """Return what to log as `extra`: the fields `event`, `task_name` and `task_id` of the record.

    Args:
        event: The event's name, which does not change: "task-redelivered".
        task_name: The task's name, if it is known.
        task_id: The task's id, if it is known.
    """
    return {"event": event, "task_name": task_name, "task_id": task_id}


def fields_of_label(event: str, label: str) -> dict[str, Any]:
    """Return the same of an execution, whose label is the task's name and id: `orders.confirm[4f5e…]`."""
    name, bracket, task_id = label.partition("[")
    return log_fields(event, name, task_id.removesuffix("]") if bracket else None)
