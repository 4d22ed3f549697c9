"""A worker is ready when it has its singletons and its broker, does not stop, and its components are well."""

import asyncio
import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from celery import bootsteps
from celery.worker import state
from pico_ioc import PicoContainer, component, health

from pico_celery_worker.observability.health import Health
from tests.unit.worker.containers import bare_container
from tests.waiting import until

checks: dict[str, Any] = {}


@component
class Database:
    def __init__(self) -> None:
        self.name = "database"

    async def check(self) -> dict[str, Any]:
        outcome = checks.get("database", {"status": "UP", "version": 17})
        if isinstance(outcome, Exception):
            raise outcome
        if isinstance(outcome, asyncio.Event):
            checks["asked"] = checks.get("asked", 0) + 1
            await outcome.wait()
        return outcome


@component
class Cache:
    @health
    def is_well(self) -> bool:
        return checks.get("cache", True)

    @health
    async def answers(self) -> bool:
        return checks.get("answers", True)


@component
class Books:
    """Whose `check` is about something else."""

    name = "books"

    def check(self, isbn: str) -> bool:
        raise AssertionError(isbn)


@component(lazy=True)
class Unused:
    name = "unused"

    def check(self) -> bool:
        raise AssertionError("it was not made")


@component
class Mailer:
    name = "mailer"

    def check(self) -> bool:
        return checks.get("mailer", True)


@pytest.fixture(autouse=True)
def forget():
    checks.clear()


@pytest.fixture
def container():
    return bare_container(Database, Cache, Books, Unused, Mailer)


def make_worker(**differently: Any) -> Any:
    consumer = SimpleNamespace(
        blueprint=SimpleNamespace(state=bootsteps.RUN),
        connection=SimpleNamespace(connected=True),
        task_consumer=object(),
    )
    return SimpleNamespace(**{"blueprint": SimpleNamespace(state=bootsteps.RUN), "consumer": consumer, **differently})


def make_health(container: PicoContainer, worker: Any = None, timeout: float = 30) -> Health:
    made = Health(worker or make_worker(), container, timeout)
    made.has_singletons = True
    return made


async def ready(health: Health) -> tuple[int, dict[str, str]]:
    response = await health.ready()
    told = json.loads(response.body)
    assert (told["status"] == "UP") == (response.status == 200)
    return int(response.status), told["checks"]


async def test_a_worker_that_lacks_nothing_is_ready(container):
    assert await ready(make_health(container)) == (
        200,
        dict.fromkeys(
            ["database", "Cache.is_well", "Cache.answers", "mailer", "singletons", "broker", "running"], "UP"
        ),
    )


async def test_a_worker_is_live_whatever_it_lacks(container):
    response = await Health(make_worker(consumer=None), container).live()

    assert (response.status, json.loads(response.body)["status"]) == (200, "UP")


async def test_a_worker_is_not_ready_until_its_singletons_are_made(container):
    assert await ready(Health(make_worker(), container)) == (
        503,
        {"singletons": "DOWN", "broker": "UP", "running": "UP"},
    )


def lost() -> Any:
    worker = make_worker()
    worker.consumer.connection = None
    return worker


def cut_off() -> Any:
    worker = make_worker()
    worker.consumer.connection.connected = False
    return worker


def not_consuming() -> Any:
    worker = make_worker()
    worker.consumer.task_consumer = None
    return worker


def starting_again() -> Any:
    worker = make_worker()
    worker.consumer.blueprint.state = bootsteps.CLOSE
    return worker


@pytest.mark.parametrize("worker", [make_worker(consumer=None), lost(), cut_off(), not_consuming(), starting_again()])
async def test_a_worker_without_its_broker_is_not_ready(worker, container):
    status, told = await ready(make_health(container, worker))

    assert (status, told["broker"]) == (503, "DOWN")


@pytest.mark.parametrize("attribute", ["should_stop", "should_terminate"])
async def test_a_worker_that_is_asked_to_stop_is_not_ready(attribute, container, monkeypatch):
    monkeypatch.setattr(state, attribute, 0)

    status, told = await ready(make_health(container))

    assert (status, told["running"]) == (503, "DOWN")


async def test_a_worker_that_stops_is_not_ready(container):
    status, told = await ready(
        make_health(container, make_worker(blueprint=SimpleNamespace(state=bootsteps.TERMINATE)))
    )

    assert (status, told["running"]) == (503, "DOWN")


@pytest.mark.parametrize(
    ("component", "outcome", "name"),
    [
        ("database", {"status": "DOWN"}, "database"),
        ("database", False, "database"),
        ("database", RuntimeError("postgres://shop:secret@db"), "database"),
        ("cache", False, "Cache.is_well"),
        ("answers", False, "Cache.answers"),
        ("mailer", False, "mailer"),
    ],
)
async def test_a_component_that_is_down_makes_the_worker_not_ready(component, outcome, name, container, caplog):
    checks[component] = outcome
    health = make_health(container)

    for _ in range(2):
        status, told = await ready(health)
        assert (status, [check for check, up in told.items() if up == "DOWN"]) == (503, [name])
    del checks[component]
    assert (await ready(health))[0] == 200

    [record] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert f"the health check {name} is down" in record.getMessage()
    assert "secret" not in record.getMessage()


async def test_a_check_that_does_not_answer_is_down(container, caplog):
    checks["database"] = asyncio.Event()

    status, told = await ready(make_health(container, timeout=0.05))

    assert (status, told["database"]) == (503, "DOWN")
    assert "has not answered within 0.05 s" in caplog.text


async def test_requests_that_come_meanwhile_share_the_checks(container):
    checks["database"] = going_on = asyncio.Event()
    health = make_health(container)
    requests = [asyncio.create_task(health.ready()) for _ in range(5)]
    async with asyncio.timeout(60):
        await until(lambda: "asked" in checks)
        requests[0].cancel()
        going_on.set()
        checks["database"] = True
        outcomes = await asyncio.gather(*requests, return_exceptions=True)

    assert checks["asked"] == 1
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert [response.status for response in outcomes[1:]] == [200] * 4
