"""`celery -A app pico dead …`, as it is typed."""

import json
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import pytest
from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner, Result
from pico_ioc import component

from pico_celery import task
from pico_celery_core.sensitive import Sensitive
from pico_celery_worker.cli.commands import pico
from pico_celery_worker.dead_letters import DeadLetters, Reason
from pico_celery_worker.dead_letters.keeping import forget_connections, keep
from tests.unit.worker.applications import app_of
from tests.unit.worker.requests import message_of


@component(scope="prototype")
class Tasks:
    @task("accounts.open")
    async def open(self, user: str, password: Annotated[str, Sensitive]) -> None: ...


@pytest.fixture
def app(redis_url: str) -> Iterator[Celery]:
    """An app with two dead letters."""
    app = app_of(Tasks, broker_url=redis_url)
    opened = message_of("accounts.open", "1", args=["ada", "the-secret", 3])
    opened.delivery_info = {"exchange": "", "routing_key": "accounts"}
    assert keep(app, opened, ValueError("three\nlines\nof it"), Reason.ARGUMENTS)
    assert keep(app, message_of("accounts.close", "2"), KeyError("accounts.close"), Reason.UNKNOWN_TASK)
    yield app
    forget_connections()
    app.close()


@pytest.fixture
def pico_dead(app: Celery) -> Callable[..., Result]:
    def run(*arguments: str, on: Celery = app) -> Result:
        context = CLIContext(app=on, no_color=True, workdir=None, quiet=False)
        return CliRunner().invoke(pico, ["dead", *arguments], obj=context)

    return run


def test_list(pico_dead: Callable[..., Result]):
    lines = pico_dead("list").stdout.splitlines()
    assert "unknown-task  accounts.close[2]" in lines[0]
    assert lines[1] == "    KeyError: 'accounts.close'"
    assert "arguments     accounts.open[1]" in lines[2]
    assert lines[3:] == ["    ValueError: three", "2 dead letters"]
    assert pico_dead("list", "--limit", "1").stdout.splitlines()[2:] == ["2 dead letters, 1 of them not shown"]


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        ([], ["2", "1"]),
        (["--task", "accounts.open"], ["1"]),
        (["--error", "keyerror"], ["2"]),
        (["--since", "1h"], ["2", "1"]),
        (["--since", "2100-01-01"], []),
    ],
)
def test_list_as_json(pico_dead: Callable[..., Result], filters: list[str], ids: list[str]):
    letters = json.loads(pico_dead("list", "--json", *filters).stdout)["letters"]
    assert [letter["task_id"] for letter in letters] == ids


def test_show_masks_what_is_sensitive(pico_dead: Callable[..., Result]):
    shown = pico_dead("show", "1").stdout
    assert "the-secret" not in shown
    assert "  args        ('ada', '***', '***')\n" in shown
    assert "  queue       accounts\n" in shown
    assert "ValueError: three\nlines\nof it" in shown
    data = json.loads(pico_dead("show", "1", "--json").stdout)
    assert {"id", "task", "traceback", "died_at", "retries", "redelivered"} <= set(data)


def test_retry_and_drop(pico_dead: Callable[..., Result], app: Celery):
    assert pico_dead("retry", "1").stdout.endswith("1 dead letter sent again\n")
    with app.connection_for_read() as connection:
        assert connection.default_channel.client.llen("accounts") == 1
    assert pico_dead("drop", "--all").stdout.endswith("1 dead letter dropped\n")
    assert DeadLetters(app).count() == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["show", "7"], 1, "There is no dead letter '7'"),
        (["retry", "1", "7"], 1, "There is no dead letter '7'"),
        (["drop"], 2, "Which ones?"),
        (["list", "--since", "soon"], 2, "'soon' is neither an age"),
    ],
)
def test_what_cannot_be_done_is_said(pico_dead: Callable[..., Result], arguments: list[str], code: int, said: str):
    result = pico_dead(*arguments)
    assert result.exit_code == code
    assert said in result.stderr


def test_another_broker(pico_dead: Callable[..., Result]):
    on: Any = app_of(Tasks, broker_url="memory://")
    result = pico_dead("list", on=on)
    assert (result.exit_code, "in Redis and in RabbitMQ, not in memory://" in result.stderr) == (1, True)
