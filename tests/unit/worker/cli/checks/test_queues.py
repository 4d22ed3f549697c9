"""Messages that wait are held against the handlers, and stay where they are."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Annotated, Any

import pytest
from celery import Celery
from pico_ioc import component

from pico_celery import task
from pico_celery_core.sensitive import Sensitive
from pico_celery_worker.cli.checks import Finding, check
from pico_celery_worker.cli.inspection import inspect_app
from tests import services
from tests.unit.worker.applications import app_of


@component(scope="prototype")
class Tasks:
    @task("pack")
    async def pack(self, weights: list[int], until: timedelta, pin: Annotated[int, Sensitive] = 0) -> None: ...

    @task("confirm")
    async def confirm(self, order: int, password: Annotated[str, Sensitive] = "") -> None: ...

    @task("bound", bind=True)
    async def bound(self, task: Any, order: int) -> None: ...


Make = Callable[..., Celery]


@pytest.fixture(params=["redis", "rabbitmq"])
def make_app(request: pytest.FixtureRequest, redis_url: str) -> Iterator[Make]:
    """Make apps on one broker with a queue of their own."""
    apps: list[Celery] = []
    with services.rabbitmq_queue() as queue:
        broker = redis_url if request.param == "redis" else services.rabbitmq_url()

        def make(**settings: Any) -> Celery:
            apps.append(app_of(Tasks, **{"broker_url": broker, "task_default_queue": queue, **settings}))
            return apps[-1]

        yield make
        for app in apps:
            app.close()


def findings(app: Celery, limit: int = 1000) -> list[Finding]:
    """Return what is found in the queues alone."""
    inspection = inspect_app(app)
    assert inspection is not None
    return [
        found for found in check(inspection, queue_limit=limit) if found.code in ("waiting-message", "unread-queue")
    ]


def problems(app: Celery) -> list[str]:
    queue = app.conf.task_default_queue
    found = [finding for finding in findings(app) if finding.code == "waiting-message"]
    return sorted(f"{finding.where.replace(queue, 'Q')}: {finding.problem}" for finding in found)


def size(app: Celery) -> int:
    with app.connection_for_read() as connection:
        queue = app.amqp.queues[app.conf.task_default_queue](connection.default_channel)
        return int(queue.queue_declare(passive=True).message_count)


def test_arguments_that_are_not_of_the_declared_types(make_app: Make):
    app = make_app()
    app.send_task("pack", ([1], "PT5M"))
    app.send_task("pack", ([1, "many"], "PT5M"))
    app.send_task("pack", ([1], "PT5M"), {"pin": "the-secret"})
    fails = "1 message that waits here would fail with this code (arguments)"
    problem = "[1]: Input should be a valid integer, unable to parse string as an integer"
    assert problems(app) == [
        f"task 'pack' in queue Q: {fails}: the argument 'pin': does not fit (expected int).",
        f"task 'pack' in queue Q: {fails}: the argument 'weights': {problem} (expected list[int]).",
    ]


def test_how_many_would_fail_by_task_and_reason(make_app: Make):
    app = make_app()
    app.send_task("confirm", (1,), priority=9, compression="zlib")
    app.send_task("bound", (1,))
    app.send_task("celery.backend_cleanup")
    for number in range(3):
        app.send_task("confirm", kwargs={"number": number, "password": "the-secret"}, priority=number * 3)
    app.send_task("cancel", (1,), countdown=3600)
    with app.producer_pool.acquire() as producer:
        send = {"routing_key": app.conf.task_default_queue, "retry": False}
        producer.publish({"no": "task"}, **send)
        producer.publish({}, headers={"task": "confirm"}, **send)
        encoded = {"content_type": "application/json", "content_encoding": "utf-8"}
        producer.publish(b"{the-secret", headers={"task": "confirm", "id": "7"}, **encoded, **send)
    fails = "here would fail with this code"
    assert problems(app) == [
        f"queue Q: 1 message that waits {fails} (malformed): it is no message of a task.",
        f"task 'cancel' in queue Q: 1 message that waits {fails} (unknown-task): no task has this name.",
        f"task 'confirm' in queue Q: 1 message that waits {fails} (malformed): id is missing or not a string.",
        f"task 'confirm' in queue Q: 1 message that waits {fails} (undecodable): DecodeError.",
        f"task 'confirm' in queue Q: 3 messages that wait {fails} (arguments): missing a required argument: 'order'.",
    ]
    assert size(app) == 10  # all are where they were


def test_where_all_fit_nothing_is_found(make_app: Make):
    app = make_app()
    assert problems(app) == []
    app.send_task("confirm", (1,))
    assert problems(app) == []


def test_queues_that_handlers_name_are_read_too(make_app: Make):
    app = make_app()
    with services.rabbitmq_queue() as other:
        app.tasks["confirm"].handler.spec.options["queue"] = other
        try:
            app.send_task("confirm", queue=other)
            assert [finding.where for finding in findings(app) if finding.code == "waiting-message"] == [
                f"task 'confirm' in queue {other}"
            ]
        finally:
            del app.tasks["confirm"].handler.spec.options["queue"]


@pytest.mark.parametrize("make_app", ["redis"], indirect=True)
def test_in_redis_what_was_delivered_and_not_acknowledged_is_read_too(make_app: Make):
    app = make_app(broker_transport_options={"global_keyprefix": "shop:"})
    app.send_task("cancel", (1,))
    with app.connection_for_read() as connection:
        channel = connection.default_channel
        client = channel.client
        item = client.rpop(app.conf.task_default_queue)
        for queue in (app.conf.task_default_queue, "another"):
            client.hset("unacked", f"tag of {queue}", json.dumps([json.loads(item), "", queue]))
        client.hset("unacked", "odd", "{")
        client.lpush(app.conf.task_default_queue, "no message")
    assert [problem.partition(":")[0] for problem in problems(app)] == ["queue Q", "task 'cancel' in queue Q"]


@pytest.mark.parametrize("make_app", ["rabbitmq"], indirect=True)
def test_of_rabbitmq_only_so_many_are_read_and_that_is_said(make_app: Make):
    app = make_app()
    for _ in range(3):
        app.send_task("cancel")
    found = {finding.severity.value: finding.problem for finding in findings(app, limit=2)}
    assert found["error"].startswith("2 messages that wait here")
    assert found["warning"] == "1 of its messages were not read: only the first 2 were."
    assert "2 messages were taken" in found["info"]
    assert size(app) == 3


def test_another_broker_cannot_be_read():
    (finding,) = findings(app_of(Tasks, broker_url="memory://"))
    assert (finding.code, finding.severity) == ("unread-queue", "warning")
