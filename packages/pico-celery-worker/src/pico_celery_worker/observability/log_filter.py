"""Which task a log record was written in, for handlers of the user's own and for those that Celery makes."""

import logging
from typing import Any, Final

from celery import current_task, signals
from celery.app.log import TaskFormatter

from pico_celery_core.one_line import one_line

_FIELDS: Final = ("task_id", "task_name", "root_id")

# Longer than any id or name that is one, and short enough for a field of every record.
_LONGEST: Final = 255


class TaskLogFilter(logging.Filter):
    """Puts `task_id`, `task_name` and `root_id` on every log record.

    Within a task they are those of the task: in its coroutine, in the asyncio tasks that it starts, in `run_blocking`
    and in `asyncio.to_thread`. They are None elsewhere. A field that a record has already stays as it is.

    Control characters are escaped, and what is too long is cut off, so that no message of a queue can forge a line.

    Add it to handlers, for the filters of a logger do not see what the loggers below it write.

    Example:
        >>> import logging.config
        >>> logging.config.dictConfig({
        ...     "version": 1,
        ...     "disable_existing_loggers": False,
        ...     "filters": {"task": {"()": "pico_celery.TaskLogFilter"}},
        ...     "formatters": {"line": {"format": "%(levelname)s %(task_name)s[%(task_id)s] %(message)s"}},
        ...     "handlers": {"shop": {"class": "logging.StreamHandler", "filters": ["task"], "formatter": "line"}},
        ...     "loggers": {"shop": {"handlers": ["shop"]}},
        ... })
        >>> logging.getLogger("shop").handlers.clear()
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Put the fields on a record, and let it pass.

        Args:
            record: The record.
        """
        fields = vars(record)
        found = _of_current_task()
        for name in _FIELDS:
            present = fields.get(name)
            value = found.get(name) if present is None else present
            fields[name] = value if value is None else one_line(str(value), _LONGEST)
        return True


def _of_current_task() -> dict[str, Any]:
    task: Any = current_task
    if not task:
        return {}
    request = task.request
    return {"task_id": request.id, "task_name": task.name, "root_id": request.root_id or request.id}


class OneLineTaskFormatter(TaskFormatter):  # type: ignore[misc]  # Celery has no types
    """Celery's formatter of what tasks log, which keeps the id of a task within the line: senders choose ids."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging calls it so
        """Format a record, whose task Celery has noted already.

        Args:
            record: The record.
        """
        fields = vars(record)
        for name in _FIELDS[:2]:
            fields[name] = one_line(str(fields.get(name)), _LONGEST)
        line: str = super().formatMessage(record)
        return line


def format_in_one_line() -> None:
    """Have Celery's handlers of what tasks log keep to one line, as soon as Celery makes them."""
    signals.after_setup_task_logger.connect(_replace_formatters, dispatch_uid="pico-celery task formatter")


def _replace_formatters(logger: logging.Logger, format: str, **_: Any) -> None:  # noqa: A002
    for handler in logger.handlers:
        formatter: Any = handler.formatter
        if type(formatter) is TaskFormatter:
            handler.setFormatter(OneLineTaskFormatter(format, use_color=formatter.use_color))
