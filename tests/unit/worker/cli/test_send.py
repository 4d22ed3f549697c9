"""`celery -A app pico send`: a task is sent, and waited for."""

import json
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import pytest
from celery import Celery
from celery.bin.celery import celery as command
from click.testing import CliRunner, Result
from kombu import Connection
from kombu.exceptions import OperationalError
from pico_ioc import component

from pico_celery import Sensitive, task
from tests.unit.worker.applications import app_of

Run = Callable[..., Result]

ROUTES = {"orders.*": {"queue": "mail"}}


@component(scope="prototype")
class Orders:
    @task("orders.confirm")
    async def confirm(self, order: int, email: str, *, password: Annotated[str, Sensitive] = "hunter2") -> str:
        """Confirms an order."""


@pytest.fixture
def app(redis_url) -> Iterator[Celery]:
    app = app_of(Orders, broker_url=redis_url, backend_url=redis_url, task_routes=ROUTES)
    yield app
    app.close()


@pytest.fixture
def run(app, monkeypatch) -> Run:
    monkeypatch.setattr("celery.bin.celery.find_app", lambda _: app)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(command, ["--no-color", "-A", "any", "pico", "send", *arguments], obj=None)

    return run


def arrived(app: Celery, queue: str) -> list[Any]:
    with Connection(app.conf.broker_url) as connection, connection.SimpleQueue(queue) as simple:
        try:
            message = simple.get_nowait()
        except simple.Empty:
            return []
        message.ack()
        return [message]


def test_a_task_is_sent_with_arguments_of_the_declared_types(app, run):
    done = run("orders.confirm", "7", "--email", "ada@shop.example", "--password=s3cret")
    assert done.exit_code == 0, done.output
    (message,) = arrived(app, "mail")
    assert done.output == f"orders.confirm[{message.headers['id']}] sent\n"
    assert message.payload[:2] == [[7], {"email": "ada@shop.example", "password": "s3cret"}]
    assert "s3cret" not in str(message.headers)


def test_another_queue_may_be_named(app, run):
    assert run("orders.confirm", "7", "a@x", "--queue", "other").exit_code == 0
    assert len(arrived(app, "other")) == 1


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("orders.confirm", "seven", "a@x"), "orders.confirm: the argument 'order' does not fit"),
        (("orders.confirm", "7"), "orders.confirm: missing a required argument: 'email'."),
        (("orders.confrim", "7"), "No handler here has the task 'orders.confrim'. Did you mean 'orders.confirm'?"),
        (("x",), "No handler here has the task 'x'. There are: orders.confirm."),
        ((), "Which task? `celery pico tasks` lists them."),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_sent(app, run, words, problem):
    done = run(*words)
    assert done.exit_code == 2
    assert problem in " ".join(done.output.split())
    assert arrived(app, "mail") == []


def test_help_behind_a_task_shows_its_parameters(run):
    done = run("orders.confirm", "--help")
    assert done.exit_code == 0
    assert done.output == (
        "orders.confirm\n"
        "  Confirms an order.\n"
        "  --order ORDER        int; required\n"
        "  --email EMAIL        str; required\n"
        "  --password PASSWORD  str; has a default\n"
    )


def test_help_without_a_task_shows_the_options(run):
    done = run("--help")
    assert done.exit_code == 0
    assert "--wait" in done.output


class Prepared:
    """What sending returns, in the place of a result that a worker would store."""

    id = "an-id"

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome

    def get(self, timeout: float | None) -> Any:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.mark.parametrize(
    ("outcome", "code", "told"),
    [
        ({"total": "7 €"}, 0, json.dumps({"total": "7 €"}, indent=2, ensure_ascii=False)),
        (None, 0, "null"),
        ({1, 2}, 0, "{1, 2}"),
        (ValueError("no such order"), 1, "orders.confirm[an-id] failed: ValueError: no such order"),
    ],
)
def test_a_value_or_an_error_is_waited_for(app, run, monkeypatch, outcome, code, told):  # noqa: PLR0917
    monkeypatch.setattr(type(app.tasks["orders.confirm"]), "apply_async", lambda *_, **__: Prepared(outcome))
    done = run("orders.confirm", "7", "a@x", "--wait")
    assert done.exit_code == code
    assert told in done.output


def test_a_value_that_does_not_come_is_waited_for_as_long_as_is_said(run):
    done = run("orders.confirm", "7", "a@x", "--wait", "--timeout", "0.05")
    assert done.exit_code == 1
    assert "has not ended within 0.05 s. It goes on." in done.output


def test_without_a_result_backend_nothing_can_be_waited_for(app, run, monkeypatch):
    monkeypatch.setattr("celery.bin.celery.find_app", lambda _: other)
    other = app_of(Orders, broker_url=app.conf.broker_url, backend_url=None)
    done = run("orders.confirm", "7", "a@x", "--wait")
    assert done.exit_code == 1
    assert "cannot be waited for" in done.output


def test_a_broker_that_is_away_is_named(app, run, monkeypatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise OperationalError("refused")

    monkeypatch.setattr(type(app.tasks["orders.confirm"]), "apply_async", refuse)
    done = run("orders.confirm", "7", "a@x")
    assert done.exit_code == 1
    assert "orders.confirm was not sent to redis://" in done.output
