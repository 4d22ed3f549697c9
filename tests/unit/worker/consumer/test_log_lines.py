"""Records about messages keep within their lines."""

import io
import logging
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest

from pico_celery_worker.consumer.log_lines import LogLineFilter, keep_lines

FORGED = "x\n[2026-01-01 00:00:00: INFO] forged \x1b[2K"
SHOWN = "x\\n[2026-01-01 00:00:00: INFO] forged \\x1b[2K"


class Log:
    """A logger with the filter, and what it has written."""

    def __init__(self) -> None:
        self.logger = logging.Logger("celery.worker.test", logging.DEBUG)  # noqa: LOG001  # that nobody else has
        self.logger.addFilter(LogLineFilter())
        self._stream = io.StringIO()
        self.logger.addHandler(logging.StreamHandler(self._stream))

    @property
    def text(self) -> str:
        return self._stream.getvalue()


@pytest.fixture
def log() -> Log:
    return Log()


class Silent:
    """Cannot be shown."""

    def __repr__(self) -> NoReturn:
        raise RuntimeError("no repr")


@pytest.mark.parametrize(
    ("message", "args", "line"),
    [
        ("Task %s[%s] received", (FORGED, FORGED), f"Task {SHOWN}[{SHOWN}] received"),
        ("Task %(name)s took %(runtime).1f s", ({"name": FORGED, "runtime": 1.23},), f"Task {SHOWN} took 1.2 s"),
        ("headers: %s %r", ({"a": FORGED}, ValueError(FORGED)), f"headers: {{'a': {FORGED!r}}} ValueError({FORGED!r})"),
        ("refused: %s", (ValueError(FORGED),), f"refused: {SHOWN}"),
        ("%d of %s, %r", (3, None, True), "3 of None, True"),
        ("long: %s.", ("y" * 200_000,), f"long: {'y' * 1024}...."),
        ("long: %r.", ([0] * 200_000,), f"long: {repr([0] * 1000)[:1024]}...."),
        ("a text\nof two lines, by Celery", (), "a text\nof two lines, by Celery"),
        (ValueError(FORGED), (), SHOWN),
    ],
)
def test_arguments_keep_within_the_line(log, message, args, line):
    log.logger.info(message, *args)
    assert log.text == line + "\n"


def test_what_cannot_be_shown_is_logged_all_the_same(log):
    log.logger.info("this is %s and %r", Silent(), Silent())
    assert log.text.startswith("this is <Unrepresentable")


def test_a_traceback_for_a_users_own_format_stays_as_it_is(log):
    log.logger.info("%(name)s: %(traceback)s", {"name": FORGED, "traceback": "Traceback:\n  File"})
    assert log.text == f"{SHOWN}: Traceback:\n  File\n"


def fail(text: str, *, group: bool = False) -> Exception:
    error = ExceptionGroup(text, [ValueError(text)]) if group else ValueError(text)
    error.__cause__ = LookupError(text)
    return error


@pytest.mark.parametrize("group", [False, True])
def test_the_text_of_an_exception_begins_no_line(log, group):
    log.logger.error("failed", exc_info=fail(FORGED, group=group))
    assert "LookupError: x\n    [2026-01-01 00:00:00: INFO] forged \\x1b[2K\n" in log.text
    assert not [line for line in log.text.splitlines() if line.startswith("[2026")]
    assert log.text.count("forged") == (3 if group else 2)


def test_a_line_of_a_traceback_is_as_long_as_one_can_read(log):
    log.logger.error("failed", exc_info=fail("y" * 200_000))
    assert max(map(len, log.text.splitlines())) < 5000


def test_other_tracebacks_are_left_to_the_formatter(log):
    class Formatter(logging.Formatter):
        def formatException(self, ei: Any) -> str:  # noqa: N802
            return "its own"

    log.logger.handlers[0].setFormatter(Formatter())
    log.logger.error("failed", exc_info=fail("of one line"))
    assert log.text == "failed\nits own\n"


@pytest.fixture
def loggers() -> Iterator[list[str]]:
    """Leave the loggers as they were, and tell which have the filter."""
    names = ("celery.worker.x", "kombu.x", "pico_celery_worker.x", "celeryd", "celery.task", "celery.task.x", "shop.x")
    for name in names:
        logging.getLogger(name)
    keep_lines()
    keep_lines()
    yield [name for name in names if logging.getLogger(name).filters]
    for logger in logging.Logger.manager.loggerDict.values():
        for found in [*getattr(logger, "filters", ())]:
            if isinstance(found, LogLineFilter):
                logger.removeFilter(found)


def test_it_is_installed_where_messages_are_logged_and_once(loggers):
    assert loggers == ["celery.worker.x", "kombu.x", "pico_celery_worker.x"]
    assert [len(logging.getLogger(name).filters) for name in loggers] == [1, 1, 1]
    assert sys.modules["pico_celery_worker.loop.watchdog"].logger.filters == []
