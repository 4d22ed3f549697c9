"""What a worker logs of a message stays within its line, and is not longer than a line may be.

Celery 5.7 and kombu log much of a message as it came: its task's name, its id, its headers. With a line break in it,
that forges lines of a log; with an escape sequence, what a terminal shows.
"""

import logging
import traceback
from collections.abc import Mapping
from typing import Any, Final

from kombu.utils.encoding import safe_repr

from pico_celery_core.one_line import LONGEST, one_line

# Whose records are about messages; not what a task of the user's logs, nor what it prints.
_PACKAGES: Final = ("celery", "kombu", "pico_celery_client", "pico_celery_core", "pico_celery_worker")
# The latter shows a stack. What it says of a message is one line already.
_OTHERS: Final = ("celery.task", "celery.redirected", "pico_celery_worker.loop.watchdog")

# Part of kombu has types, and this has not.
_repr: Any = safe_repr


class _Shown:
    """Stands for a value among the arguments of a record."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def __str__(self) -> str:
        try:
            return one_line(str(self._value))
        except Exception:  # noqa: BLE001  # as little as it can be shown, the record is to be
            return repr(self)

    def __repr__(self) -> str:
        return one_line(str(_repr(self._value)))


class LogLineFilter(logging.Filter):
    """Keeps each argument of a record within its line, and the texts of exceptions within their traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        args = record.args
        if isinstance(args, Mapping):
            # Celery hands over the traceback too, for formats of the user's own.
            record.args = {name: value if name == "traceback" else _shown(value) for name, value in args.items()}
        elif args:
            record.args = tuple(map(_shown, args))
        if not isinstance(record.msg, str):
            record.msg = _Shown(record.msg)
        if record.exc_info and not record.exc_text:
            record.exc_text = _traceback(record.exc_info)
        return True


def keep_lines() -> None:
    """Install the filter with the loggers of Celery, kombu, and ours; once."""
    for name, logger in tuple(logging.Logger.manager.loggerDict.items()):
        if _is_of_a_worker(name) and isinstance(logger, logging.Logger):
            logger.filters = [present for present in logger.filters if not isinstance(present, LogLineFilter)]
            logger.addFilter(LogLineFilter())


def _is_of_a_worker(name: str) -> bool:
    is_other = any(f"{name}.".startswith(f"{other}.") for other in _OTHERS)
    return name.partition(".")[0] in _PACKAGES and not is_other


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return one_line(value)
    return value if value is None or isinstance(value, (int, float)) else _Shown(value)


def _traceback(exc_info: Any) -> str | None:
    """Return a traceback in which no exception's text looks like a line of the log, or None for the usual one."""
    try:
        parts = [*traceback.TracebackException(*exc_info).format()]
    except Exception:  # noqa: BLE001  # the formatter may manage what this cannot
        return None
    kept = [_kept(part) for part in parts]
    return None if kept == parts else "".join(kept).rstrip("\n")


def _kept(part: str) -> str:
    lines = [one_line(line.expandtabs(), 4 * LONGEST) for line in part.removesuffix("\n").split("\n")]
    # Frames are indented. What is not is an exception with its text, of which there may be several lines.
    indent = "" if part[:1] in " \n" else "    "
    return lines[0] + "".join(f"\n{indent}{line}" for line in lines[1:]) + "\n" * part.endswith("\n")
