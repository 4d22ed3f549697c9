"""The services that tests use: each test gets room of its own."""

import os
import random
import subprocess
import sys
from pathlib import Path

import asyncpg
import kombu
import pytest
import redis

from tests import services


def test_each_redis_database_is_empty_and_belongs_to_one_test(redis_url):
    with redis.Redis.from_url(redis_url) as mine, services.redis_database() as other_url:
        assert other_url != redis_url
        assert mine.dbsize() == 0


def test_a_redis_database_is_given_back_by_a_run_that_is_killed(monkeypatch, redis_url):
    number = random.randrange(1000, 2**31)  # a lease needs no database
    holder = f"""
import redis
from tests import services

services._REDIS_DATABASES = [{number}]
with redis.Redis.from_url("{redis_url}") as server, services._lease(server) as number:
    print(number, flush=True)
    input()
"""
    monkeypatch.setattr(services, "_REDIS_DATABASES", [number])
    with (
        subprocess.Popen(
            [sys.executable, "-c", holder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[1],
            env=os.environ | {"PYTHONPATH": "."},
            text=True,
        ) as process,
        redis.Redis.from_url(redis_url) as server,
    ):
        try:
            assert process.stdout.readline() == f"{number}\n"
            with monkeypatch.context() as patch:
                patch.setattr(services, "_LONGEST_WAIT", 0.1)
                with pytest.raises(pytest.fail.Exception, match="in use by other tests"), services._lease(server):
                    pass
        finally:
            process.kill()
        process.wait()
        with services._lease(server) as mine:
            assert mine == number


def test_each_rabbitmq_queue_is_new_and_gone_afterwards(rabbitmq_url):
    with kombu.Connection(rabbitmq_url) as connection:
        with services.rabbitmq_queue() as name:
            queue = kombu.Queue(name, channel=connection)
            assert queue.queue_declare().queue == name
        with pytest.raises(connection.channel_errors):
            queue.queue_declare(passive=True)


async def test_each_postgres_database_is_empty(postgres_dsn):
    connection = await asyncpg.connect(postgres_dsn)
    try:
        assert await connection.fetch("SELECT 1 FROM pg_tables WHERE schemaname = 'public'") == []
    finally:
        await connection.close()


@pytest.mark.parametrize(("required", "outcome"), [("1", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_a_service_that_is_away_skips_the_test_or_fails_it_where_services_are_required(monkeypatch, required, outcome):
    monkeypatch.setenv("PICO_CELERY_REQUIRE_SERVICES", required)
    with pytest.raises(outcome, match="Redis is not reachable: refused"):
        services.unreachable("Redis", ConnectionError("refused"))
