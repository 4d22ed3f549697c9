"""Log records say in which task they were written, and no id of a message breaks a line."""

import asyncio
import io
import json
import logging
import logging.config
from typing import Any

import pytest
import structlog
from celery import signals
from celery.app.log import TaskFormatter
from pico_ioc import component
from pythonjsonlogger.json import JsonFormatter

from pico_celery import task
from pico_celery.testing import TaskRunner
from pico_celery_worker import TaskLogFilter, run_blocking
from pico_celery_worker.observability.log_filter import OneLineTaskFormatter, format_in_one_line
from tests.unit.worker.applications import application

FORGED = "an id\n[2026-01-01] ERROR forged \x1b[2K"

logger = logging.getLogger("tests.shop")


@component(scope="prototype")
class Tasks:
    @task("logs.write")
    async def write(self) -> None:
        async def child() -> None:
            await asyncio.sleep(0)
            logger.warning("child")

        logger.warning("handler")
        await asyncio.gather(child(), child())
        await run_blocking(logger.warning, "blocking")
        await asyncio.to_thread(logger.warning, "thread")


class Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[Any] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def records():
    handler = Records()
    handler.addFilter(TaskLogFilter())
    logger.addHandler(handler)
    yield handler.records
    logger.removeHandler(handler)


@pytest.fixture
def runner():
    with TaskRunner(application(Tasks)) as runner:
        yield runner


def configured(stream: io.StringIO, formatter: Any) -> logging.Handler:
    """Configure a handler by `dictConfig`, as a user would, and return it."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {"task": {"()": "pico_celery.TaskLogFilter"}},
            "formatters": {"chosen": formatter},
            "handlers": {
                "stream": {
                    "class": "logging.StreamHandler",
                    "stream": stream,
                    "filters": ["task"],
                    "formatter": "chosen",
                }
            },
            "loggers": {"tests.shop": {"handlers": ["stream"]}},
        }
    )
    return logger.handlers[0]


@pytest.fixture
def lines():
    """Configure logging with a formatter, and read what is written."""
    stream = io.StringIO()

    def configure(formatter: Any) -> io.StringIO:
        configured(stream, formatter)
        return stream

    yield configure
    logger.handlers.clear()


def run(runner: TaskRunner, task_id: str) -> None:
    runner.app.send_task("logs.write", task_id=task_id, root_id="the root")
    runner.join()


def test_a_record_says_in_which_task_it_was_written(runner, records):
    run(runner, "one")

    assert [record.msg for record in records] == ["handler", "child", "child", "blocking", "thread"]
    assert {(record.task_id, record.task_name, record.root_id) for record in records} == {
        ("one", "logs.write", "the root")
    }


def test_a_record_outside_of_tasks_has_the_fields_too(records):
    logger.warning("outside")

    assert (records[0].task_id, records[0].task_name, records[0].root_id) == (None, None, None)


def test_what_a_record_says_itself_stays(records):
    logger.warning("of another", extra={"task_id": "other", "task_name": None})

    assert (records[0].task_id, records[0].task_name) == ("other", None)


def test_no_id_breaks_or_lengthens_a_line(runner, lines):
    stream = lines({"format": "%(task_name)s[%(task_id)s] %(root_id)s: %(message)s"})

    run(runner, FORGED)
    run(runner, "x" * 100_000)

    written = stream.getvalue()
    assert len(written.splitlines()) == 10
    assert "\x1b" not in written
    assert r"an id\n[2026-01-01] ERROR forged \x1b[2K" in written
    assert max(map(len, written.splitlines())) < 1000


def test_python_json_logger_writes_the_fields(runner, lines):
    stream = lines({"()": JsonFormatter})

    run(runner, "one")

    written = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["message"] for line in written] == ["handler", "child", "child", "blocking", "thread"]
    assert {(line["task_id"], line["task_name"], line["root_id"]) for line in written} == {
        ("one", "logs.write", "the root")
    }


def test_structlog_writes_the_fields(runner, lines):
    stream = lines(
        {
            "()": structlog.stdlib.ProcessorFormatter,
            "foreign_pre_chain": [structlog.stdlib.ExtraAdder(["task_id", "task_name", "root_id"])],
            "processors": [
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        }
    )

    run(runner, "one")

    written = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert written[0] == {"event": "handler", "task_id": "one", "task_name": "logs.write", "root_id": "the root"}
    assert len(written) == 5


def test_the_formatter_of_celery_writes_the_task(runner, lines):
    """As users name it in `dictConfig`, and with the ids that Celery makes."""
    stream = lines({"()": TaskFormatter, "fmt": "%(task_name)s[%(task_id)s]: %(message)s", "use_color": False})

    run(runner, "one")

    assert stream.getvalue().splitlines()[:2] == ["logs.write[one]: handler", "logs.write[one]: child"]


def test_the_handlers_that_celery_makes_keep_to_one_line(runner):
    """Celery's own set-up of what tasks log, without its effect on the process."""
    format_in_one_line()
    stream = io.StringIO()
    of_tasks = logging.getLogger("tests.of_tasks")
    logging_of_celery = runner.app.log
    logging_of_celery.setup_handlers(of_tasks, stream, "%(task_name)s[%(task_id)s]: %(message)s", True, TaskFormatter)

    signals.after_setup_task_logger.send(
        sender=None, logger=of_tasks, format="%(task_name)s[%(task_id)s]: %(message)s", colorize=True
    )

    [handler] = of_tasks.handlers
    assert type(handler.formatter) is OneLineTaskFormatter
    assert handler.formatter.use_color
    of_tasks.removeHandler(handler)
    logger.addHandler(handler)
    try:
        run(runner, FORGED)
    finally:
        logger.removeHandler(handler)
    written = stream.getvalue().splitlines()
    assert len(written) == 5
    assert r"logs.write[an id\n[2026-01-01] ERROR forged \x1b[2K]: handler" in written[0]
