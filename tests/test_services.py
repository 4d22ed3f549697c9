"""The services that tests use: each test gets room of its own."""

import os
import random
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import kombu
import pytest
import redis

from tests import services
from tests.servers import own_redis
from tests.waiting import eventually


def test_each_redis_database_is_empty_and_belongs_to_one_test(redis_url):
    with redis.Redis.from_url(redis_url) as mine, services.redis_database() as other_url:
        assert other_url != redis_url
        assert mine.dbsize() == 0


def test_the_tests_have_a_redis_server_of_their_own_that_ends_with_them(own_server):
    """Also where nobody has named one, something else answers on the standard port, and the run is killed."""
    holder = """
from tests import services

with services.redis_database() as url:
    print(url, flush=True)
    input()
"""
    environment = {name: value for name, value in os.environ.items() if name != "PICO_CELERY_REDIS_URL"}
    with subprocess.Popen(
        [sys.executable, "-c", holder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
        env=environment | {"PYTHONPATH": "."},
        text=True,
    ) as process:
        url = process.stdout.readline().strip()
        with redis.Redis.from_url(url) as client:
            try:
                assert urlsplit(url).port not in (6379, own_server.port)
                assert client.ping()
            finally:
                process.kill()
            eventually(lambda: not answers(client))


def answers(client):
    try:
        return client.ping()
    except redis.ConnectionError:
        return False


@pytest.fixture
def own_server():
    with own_redis() as server:
        yield server


class TestAServerOfOthers:
    """Such as one that PICO_CELERY_REDIS_URL names."""

    def test_databases_with_keys_are_left_alone(self, own_server):
        url = own_server.url.rpartition("/")[0]
        keep(url, range(2, 15))
        server = services.RedisServer(url, is_ours=False)
        with server.database() as lent, redis.Redis.from_url(lent) as client:
            assert lent == f"{url}/15"
            client.set("a test's", "key")
        assert kept(url, range(2, 16)) == [b"precious"] * 13 + [None]
        with redis.Redis.from_url(lent) as client:
            assert not client.dbsize()

    def test_a_database_that_another_client_uses_is_left_alone(self, own_server):
        url = own_server.url.rpartition("/")[0]
        keep(url, range(2, 14))
        server = services.RedisServer(url, is_ours=False)
        with redis.Redis.from_url(f"{url}/14") as other:
            assert other.ping()
            for _ in range(2):
                with server.database() as lent, redis.Redis.from_url(lent) as of_a_test:
                    of_a_test.ping()
                    assert lent == f"{url}/15"

    @pytest.mark.parametrize(("required", "outcome"), [("1", pytest.fail.Exception), ("", pytest.skip.Exception)])
    def test_without_an_empty_one_nothing_is_touched_and_the_cure_is_named(
        self, monkeypatch, own_server, required, outcome
    ):
        monkeypatch.setenv("PICO_CELERY_REQUIRE_SERVICES", required)
        url = own_server.url.rpartition("/")[0]
        keep(url, range(2, 16))
        server = services.RedisServer(url, is_ours=False)
        with pytest.raises(outcome, match="PICO_CELERY_REDIS_URL"), server.database():
            pass
        assert kept(url, range(2, 16)) == [b"precious"] * 14


def keep(url, databases):
    for number in databases:
        with redis.Redis.from_url(f"{url}/{number}") as client:
            client.set("key", "precious")


def kept(url, databases):
    found = []
    for number in databases:
        with redis.Redis.from_url(f"{url}/{number}") as client:
            found.append(client.get("key"))
    return found


def test_a_redis_database_is_given_back_by_a_run_that_is_killed(monkeypatch, redis_url):
    number = random.randrange(1000, 2**31)  # a lease needs no database
    mine = services.RedisServer(redis_url, is_ours=True)
    holder = f"""
import redis
from tests import services

services._REDIS_DATABASES = [{number}]
theirs = services.RedisServer("{redis_url}", is_ours=True)
with redis.Redis.from_url("{redis_url}") as server, theirs._lease(server) as number:
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
                with pytest.raises(pytest.fail.Exception, match="in use by other tests"), mine._lease(server):
                    pass
        finally:
            process.kill()
        process.wait()
        with mine._lease(server) as leased:
            assert leased == number


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
