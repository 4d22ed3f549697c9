"""A worker is noted in Redis for as long as it is there."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import kombu
import pytest
import redis

from pico_celery_worker.transports import with_reliable_transport
from pico_celery_worker.transports.workers import register, unregister, worker_name
from tests import services

pytestmark = pytest.mark.services


@contextmanager
def place(**options: Any) -> Iterator[tuple[Any, Any]]:
    """A connection of a worker, and a look at what is in Redis."""
    with (
        services.redis_database() as url,
        with_reliable_transport(kombu.Connection(url, transport_options=options)) as connection,
        redis.Redis.from_url(url, decode_responses=True) as client,
    ):
        yield connection, client


def test_a_worker_is_known_for_a_while_and_until_it_ends():
    with place() as (connection, client):
        channel = connection.channel()
        channel.renew_leases()
        [(name, until)] = client.zrange("unacked:workers", 0, -1, withscores=True)
        assert name == worker_name()
        assert until > client.time()[0]
        unregister(channel)
        assert client.exists("unacked:workers") == 0


def test_what_an_application_calls_its_keys_holds_for_this_one():
    with place(global_keyprefix="shop:", unacked_key="pending") as (connection, client):
        connection.channel().renew_leases()
        assert client.keys("*workers") == ["shop:pending:workers"]


def test_redis_may_refuse_it(caplog: pytest.LogCaptureFixture):
    class Refusing:
        def time(self) -> None:
            raise redis.ResponseError("NOPERM")

    with place() as (connection, _), caplog.at_level(logging.DEBUG, "pico_celery_worker"):
        register(connection.channel(), Refusing())
    assert "NOPERM" in caplog.text


def test_a_process_has_a_name_of_its_own():
    assert worker_name().endswith(f".{os.getpid()}")
