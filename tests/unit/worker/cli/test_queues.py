"""`celery -A app pico queues`: what waits, what is unacknowledged, and how old the oldest is."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery
from celery.bin.celery import celery as command
from click.testing import CliRunner, Result
from kombu import Connection
from pico_ioc import component

from pico_celery import task
from pico_celery_core.errors import NoDeadLettersError
from pico_celery_core.publishing_time import note_publishing_times
from pico_celery_worker.cli.queues import QueueState, states_of
from tests.services import rabbitmq_queue, rabbitmq_url
from tests.unit.worker.applications import app_of

Run = Callable[..., Result]

ROUTES = {"orders.*": {"queue": "mail"}}


@component(scope="prototype")
class Orders:
    @task("orders.confirm")
    async def confirm(self, order: int) -> None: ...


def run(monkeypatch: pytest.MonkeyPatch, app: Celery, *arguments: str) -> Result:
    monkeypatch.setattr("celery.bin.celery.find_app", lambda _: app)
    return CliRunner().invoke(command, ["--no-color", "-A", "any", "pico", "queues", *arguments], obj=None)


@pytest.fixture
def app(redis_url) -> Any:
    note_publishing_times()
    app = app_of(Orders, broker_url=redis_url, backend_url=None, task_routes=ROUTES)
    yield app
    app.close()


def test_of_redis_all_is_known_but_the_consumers(app, redis_url):
    for number, priority in enumerate((0, 9, 0)):
        app.send_task("orders.confirm", (number,), queue="mail", priority=priority)
    app.send_task("orders.confirm", (3,), queue="mail", headers={"pico_published_at": 1})
    with Connection(redis_url) as connection, connection.SimpleQueue("mail") as simple:
        simple.get_nowait()
        mail, empty = states_of(app, ["mail", "empty"])
        simple.clear()
    assert (mail.name, mail.depth, mail.unacknowledged, mail.consumers) == ("mail", 3, 1, None)
    assert mail.oldest is not None
    assert 0 <= mail.oldest < 1000
    assert empty == QueueState("empty", 0, 0, None, None)


def test_what_waits_and_is_no_message_is_counted(app):
    with app.connection_for_write() as connection:
        connection.default_channel.client.lpush("mail", "{}", "no message")
    assert list(states_of(app, ["mail"])) == [QueueState("mail", 2, 0, None, None)]


def test_of_rabbitmq_is_told_what_it_tells():
    app = app_of(Orders, broker_url=rabbitmq_url(), backend_url=None)
    with rabbitmq_queue() as queue:
        # What is confirmed is counted.
        confirmed = Connection(rabbitmq_url(), transport_options={"confirm_publish": True})
        with confirmed as connection, connection.SimpleQueue(queue) as simple:
            simple.put({})
            there, missing = states_of(app, [queue, f"{queue}-missing"])
        assert there.depth == 1
        assert (there.unacknowledged, there.oldest) == (None, None)
        assert there.consumers is not None
        assert missing == QueueState(f"{queue}-missing", 0, 0, None, 0)


def test_the_table_and_the_json(app, monkeypatch):
    app.send_task("orders.confirm", (1,), queue="mail")
    done = run(monkeypatch, app)
    assert done.exit_code == 0, done.output
    head, *rows = done.output.splitlines()
    assert head.split() == ["queue", "depth", "unacknowledged", "oldest", "consumers"]
    assert rows[0].split() == ["celery", "0", "0", "-", "unknown"]
    assert [*rows[1].split()[:3], rows[1].split()[-1]] == ["mail", "1", "0", "unknown"]
    assert "2 queues." in done.output
    celery, mail = json.loads(run(monkeypatch, app, "--json").output)["queues"]
    assert celery == {"name": "celery", "depth": 0, "unacknowledged": 0, "oldest": None, "consumers": None}
    assert mail["depth"] == 1


def test_of_other_brokers_nothing_is_known(monkeypatch):
    app = app_of(Orders, broker_url="memory://", backend_url=None)
    with pytest.raises(NoDeadLettersError):
        list(states_of(app, ["mail"]))
    done = run(monkeypatch, app)
    assert done.exit_code == 1
    assert "Of memory://" in done.output


def test_a_broker_that_is_away_is_named(monkeypatch):
    app = app_of(Orders, broker_url="redis://localhost:1", backend_url=None)
    done = run(monkeypatch, app)
    assert done.exit_code == 1
    assert "localhost:1" in done.output
    assert "cannot be reached" in done.output
