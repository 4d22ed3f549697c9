"""Apps whose brokers keep dead letters."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any

import pytest
from celery import Celery
from pico_ioc import component

from pico_celery import task
from pico_celery_core.sensitive import Sensitive
from pico_celery_worker.dead_letters.keeping import forget_connections
from tests import services
from tests.unit.worker.applications import app_of


@component(scope="prototype")
class Tasks:
    @task("open")
    async def open(self, user: str = "", password: Annotated[str, Sensitive] = "") -> None: ...

    @task("plain")
    async def plain(self, user: str = "") -> None: ...


@pytest.fixture
def make_app(redis_url: str) -> Iterator[Callable[..., Celery]]:
    """Make an app with the tasks `open` and `plain`, by default on Redis."""
    apps: list[Celery] = []

    def make(**settings: Any) -> Celery:
        app = app_of(Tasks, **{"broker_url": redis_url, "task_default_queue": "tasks", **settings})
        apps.append(app)
        return app

    yield make
    forget_connections()
    for app in apps:
        app.close()


@pytest.fixture(params=["redis", "rabbitmq"])
def app(request: pytest.FixtureRequest, make_app: Callable[..., Celery]) -> Iterator[Celery]:
    """An app on each broker."""
    if request.param == "redis":
        yield make_app()
        return
    url = services.rabbitmq_url()
    with services.rabbitmq_queue() as queue, services.rabbitmq_queue() as letters:
        yield make_app(broker_url=url, task_default_queue=queue, pico_dead_letters_queue=letters)
