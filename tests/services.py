"""Room of its own for a test on a real broker or database: the next test, or another run beside it, does not see it.

Nothing that was there before is touched. For Redis the tests start a server of their own where `redis-server` is
installed. Other services are looked for on their standard local ports, or where their environment variables say, and
lend what is new or empty.
"""

import asyncio
import os
import random
import shutil
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import kombu
import pytest
import redis

from tests.servers import missing, temporary_redis, unreachable

RABBITMQ_URL = os.environ.get("PICO_CELERY_RABBITMQ_URL", "amqp://guest:guest@localhost:5672//")
POSTGRES_DSN = os.environ.get("PICO_CELERY_POSTGRES_DSN", "postgresql://postgres:postgres@localhost:5432/postgres")

# Databases 0 and 1 are what applications use by default.
_REDIS_DATABASES = range(2, 16)
_LONGEST_WAIT = 45


class RedisServer:
    """A Redis server that lends databases.

    Args:
        url: Its URL.
        is_ours: Whether all of its data is the tests': a database that is lent may then be emptied first.
    """

    def __init__(self, url: str, is_ours: bool) -> None:
        self._url = urlsplit(url)
        self._is_ours = is_ours
        # The databases that were lent before: what is connected to those is a test's.
        self._lent: set[int] = set()

    @contextmanager
    def database(self) -> Iterator[str]:
        """Lend an empty database: its URL."""
        with redis.Redis.from_url(self._url_of(0), socket_connect_timeout=2) as server:
            try:
                server.ping()
            except redis.ConnectionError as error:
                unreachable("Redis", error)
            with self._lease(server) as number, redis.Redis.from_url(self._url_of(number)) as database:
                if self._is_ours:
                    database.flushdb()
                try:
                    yield self._url_of(number)
                finally:
                    database.flushdb()

    def _url_of(self, database: int) -> str:
        return urlunsplit(self._url._replace(path=f"/{database}"))

    @contextmanager
    def _lease(self, server: "redis.Redis") -> Iterator[int]:
        """Keep other tests, and other runs, out of a database.

        The only subscriber of a database's channel has the database. A lease thus ends with the process that took it,
        also where that is killed.
        """
        deadline = time.monotonic() + _LONGEST_WAIT
        while time.monotonic() < deadline:
            # What a killed run left may still be connected somewhere, and would take a test's messages.
            connected = Counter(int(client["db"]) for client in server.client_list())
            others: list[int] = []
            # Two that try the same databases in the same order would stand in each other's way again and again.
            shuffled = random.sample(_REDIS_DATABASES, len(_REDIS_DATABASES))
            for number in sorted(shuffled, key=connected.__getitem__):
                channel = f"pico-celery-tests:database:{number}"
                with server.pubsub() as subscription:
                    subscription.subscribe(channel)
                    is_subscribed = subscription.get_message(timeout=60) is not None
                    if is_subscribed and server.pubsub_numsub(channel) == [(channel.encode(), 1)]:
                        if self._belongs_to_others(server, number, connected):
                            others.append(number)
                            continue
                        self._lent.add(number)
                        yield number
                        return
            if len(others) == len(_REDIS_DATABASES):
                missing(
                    f"Redis at {self._url.hostname}:{self._url.port or 6379} has no database for the tests: each of "
                    f"{_REDIS_DATABASES[0]} to {_REDIS_DATABASES[-1]} holds keys, or has other clients. The tests "
                    "leave alone what is not theirs. Install redis-server, and they start a server of their own; name "
                    "another server in PICO_CELERY_REDIS_URL; or empty a database that you can spare."
                )
            time.sleep(0.1)  # until another test gives one back
        pytest.fail(f"Redis databases {_REDIS_DATABASES[0]} to {_REDIS_DATABASES[-1]} are all in use by other tests")

    def _belongs_to_others(self, server: "redis.Redis", number: int, connected: Counter[int]) -> bool:
        if self._is_ours:
            return False
        holds_keys = f"db{number}" in server.info("keyspace")
        return holds_keys or (connected[number] > 0 and number not in self._lent)


_redis_server: RedisServer | None = None
_starting = threading.Lock()


def redis_server() -> RedisServer:
    """Return the Redis server of this process's tests, which is started for them where that is possible."""
    global _redis_server
    with _starting:
        if _redis_server is None:
            url = os.environ.get("PICO_CELERY_REDIS_URL", "")
            if not url and shutil.which("redis-server"):
                _redis_server = RedisServer(temporary_redis(), is_ours=True)
            else:
                _redis_server = RedisServer(url or "redis://localhost:6379", is_ours=False)
        return _redis_server


def redis_database() -> AbstractContextManager[str]:
    """Lend an empty Redis database: its URL."""
    return redis_server().database()


@contextmanager
def rabbitmq_queue() -> Iterator[str]:
    """Lend the name of a queue that nobody else uses, and delete that queue afterwards."""
    name = f"pico-celery-tests-{uuid.uuid4().hex}"
    with kombu.Connection(rabbitmq_url(), connect_timeout=2) as connection:
        yield name
        with connection.channel() as channel:
            for queue in (name, f"{name}-dead"):  # where the worker's app keeps its dead letters, too
                channel.queue_delete(queue)
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
