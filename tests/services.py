"""Room of its own for a test on a real broker or database: the next test, or another run beside it, does not see it.

Each service is looked for on its standard local port, or where its environment variable says.
"""

import asyncio
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import kombu
import pytest
import redis

REDIS_URL = os.environ.get("PICO_CELERY_REDIS_URL", "redis://localhost:6379")
RABBITMQ_URL = os.environ.get("PICO_CELERY_RABBITMQ_URL", "amqp://guest:guest@localhost:5672//")
POSTGRES_DSN = os.environ.get("PICO_CELERY_POSTGRES_DSN", "postgresql://postgres:postgres@localhost:5432/postgres")

# Databases 0 and 1 are what applications use by default. A lease in database 0 keeps two runs out of each other's way;
# it ends by itself where a run was killed.
_REDIS_DATABASES = range(2, 16)
_LEASE_SECONDS = 300
_LONGEST_WAIT = 45


def unreachable(service: str, error: Exception) -> None:
    """Skip the test; fail it where the services are said to be there."""
    reason = f"{service} is not reachable: {error}"
    if os.environ.get("PICO_CELERY_REQUIRE_SERVICES") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def redis_database() -> Iterator[str]:
    """Lend an empty Redis database: its URL."""
    with redis.Redis.from_url(f"{REDIS_URL}/0", socket_connect_timeout=2) as leases:
        try:
            leases.ping()
        except redis.ConnectionError as error:
            unreachable("Redis", error)
        number = _lease(leases)
        url = f"{REDIS_URL}/{number}"
        try:
            with redis.Redis.from_url(url) as database:
                database.flushdb()
                yield url
                database.flushdb()
        finally:
            leases.delete(_lease_key(number))


def _lease(leases: "redis.Redis") -> int:
    deadline = time.monotonic() + _LONGEST_WAIT
    while time.monotonic() < deadline:
        for number in _REDIS_DATABASES:
            if leases.set(_lease_key(number), os.getpid(), nx=True, ex=_LEASE_SECONDS):
                return number
        time.sleep(0.1)  # until another test gives one back
    pytest.fail(f"Redis databases {_REDIS_DATABASES[0]} to {_REDIS_DATABASES[-1]} are all in use by other tests")


def _lease_key(number: int) -> str:
    return f"pico-celery-tests:database:{number}"


@contextmanager
def rabbitmq_queue() -> Iterator[str]:
    """Lend the name of a queue that nobody else uses, and delete that queue afterwards."""
    name = f"pico-celery-tests-{uuid.uuid4().hex}"
    with kombu.Connection(rabbitmq_url(), connect_timeout=2) as connection:
        yield name
        with connection.channel() as channel:
            channel.queue_delete(name)
            channel.exchange_delete(name)


def rabbitmq_url() -> str:
    """Return RabbitMQ's URL, having tried it."""
    with kombu.Connection(RABBITMQ_URL, connect_timeout=2) as connection:
        try:
            connection.connect()
        except connection.connection_errors as error:
            unreachable("RabbitMQ", error)
    return RABBITMQ_URL


@contextmanager
def postgres_database() -> Iterator[str]:
    """Lend an empty PostgreSQL database: its DSN."""
    name = f"pico_celery_tests_{uuid.uuid4().hex}"
    try:
        asyncio.run(_execute(f'CREATE DATABASE "{name}"'))
    except (OSError, asyncpg.PostgresError) as error:
        unreachable("PostgreSQL", error)
    try:
        yield urlunsplit(urlsplit(POSTGRES_DSN)._replace(path=f"/{name}"))
    finally:
        asyncio.run(_execute(f'DROP DATABASE "{name}" WITH (FORCE)'))


async def _execute(statement: str) -> None:
    connection = await asyncpg.connect(POSTGRES_DSN, timeout=5)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
