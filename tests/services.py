"""Room of its own for a test on a real broker or database: the next test, or another run beside it, does not see it.

Each service is looked for on its standard local port, or where its environment variable says.
"""

import asyncio
import os
import random
import time
import uuid
from collections import Counter
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

# Databases 0 and 1 are what applications use by default.
_REDIS_DATABASES = range(2, 16)
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
    with redis.Redis.from_url(f"{REDIS_URL}/0", socket_connect_timeout=2) as server:
        try:
            server.ping()
        except redis.ConnectionError as error:
            unreachable("Redis", error)
        with _lease(server) as number, redis.Redis.from_url(f"{REDIS_URL}/{number}") as database:
            database.flushdb()
            yield f"{REDIS_URL}/{number}"
            database.flushdb()


@contextmanager
def _lease(server: "redis.Redis") -> Iterator[int]:
    """Keep other tests, and other runs, out of a database.

    The only subscriber of a database's channel has the database. A lease thus ends with the process that took it, also
    where that is killed.
    """
    deadline = time.monotonic() + _LONGEST_WAIT
    while time.monotonic() < deadline:
        # What a killed run left may still be connected somewhere, and would take a test's messages.
        connected = Counter(int(client["db"]) for client in server.client_list())
        # Two that try the same databases in the same order would stand in each other's way again and again.
        shuffled = random.sample(_REDIS_DATABASES, len(_REDIS_DATABASES))
        for number in sorted(shuffled, key=connected.__getitem__):
            channel = f"pico-celery-tests:database:{number}"
            with server.pubsub() as subscription:
                subscription.subscribe(channel)
                is_subscribed = subscription.get_message(timeout=10) is not None
                if is_subscribed and server.pubsub_numsub(channel) == [(channel.encode(), 1)]:
                    yield number
                    return
        time.sleep(0.1)  # until another test gives one back
    pytest.fail(f"Redis databases {_REDIS_DATABASES[0]} to {_REDIS_DATABASES[-1]} are all in use by other tests")


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
