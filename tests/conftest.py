"""What all tests share: services of their own, for one test each."""

import gc
from collections.abc import Iterator

import pytest
from celery import _state

from tests import services
from tests.distribution import pytest_xdist_auto_num_workers, pytest_xdist_make_scheduler

__all__ = ["pytest_xdist_auto_num_workers", "pytest_xdist_make_scheduler"]

_SERVICES = {"redis_url", "rabbitmq_url", "rabbitmq_queue", "postgres_dsn"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses a service, so that `-m "not services"` leaves it out."""
    for item in items:
        if _SERVICES & {*getattr(item, "fixturenames", ())}:
            item.add_marker("services")


def pytest_collection_finish() -> None:
    """Have the garbage collector look no more at what the whole run keeps: thousands of tests, and modules."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_shared_tasks() -> Iterator[None]:
    """Forget the plain tasks that a test, such as a page of the docs, has declared: Celery gives them to all apps."""
    before = set(_state._on_app_finalizers)
    yield
    _state._on_app_finalizers.intersection_update(before)


@pytest.fixture
def redis_url() -> Iterator[str]:
    """The URL of an empty Redis database."""
    with services.redis_database() as url:
        yield url


@pytest.fixture
def rabbitmq_url() -> str:
    """RabbitMQ's URL. Its queues are shared with other tests: use `rabbitmq_queue` too."""
    return services.rabbitmq_url()


@pytest.fixture
def rabbitmq_queue() -> Iterator[str]:
    """The name of a RabbitMQ queue for this test alone, such as for `task_default_queue`."""
    with services.rabbitmq_queue() as name:
        yield name


@pytest.fixture
def postgres_dsn() -> Iterator[str]:
    """The DSN of an empty PostgreSQL database."""
    with services.postgres_database() as dsn:
        yield dsn
