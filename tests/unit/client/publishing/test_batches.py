"""Batches: what the coroutines of one event loop send at the same time goes to the broker together."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from celery import Celery, signals
from kombu.exceptions import OperationalError

from pico_celery_client import CeleryClient, celery, with_options
from pico_celery_client.publishing.redis import RedisBatch
from pico_celery_core import send_task
from pico_celery_core.errors import ArgumentEncodingError, PublishTimeoutError
from tests.servers import own_redis
from tests.unit.client import arrivals
from tests.unit.client.arrivals import numbers
from tests.waiting import until

pytestmark = pytest.mark.filterwarnings("ignore:.*setex.*:DeprecationWarning")


@celery
class Client(CeleryClient):
    @send_task("tasks.run")
    async def run(self, number: Any) -> int: ...


@pytest.fixture
def connect(container, sending_app) -> Callable[[str], Client]:
    """Make a client whose broker is at a URL."""
    return lambda url: container(Client, overrides={Celery: sending_app(url)}).get(Client)


def arrived(url: str, queue: str = "celery") -> list[Any]:
    """Take the numbers that were sent out of a queue."""
    return numbers(arrivals.arrived(url, queue))


@contextmanager
def held_up() -> Iterator[tuple[threading.Event, threading.Event]]:
    """Hold up the sending of number 0: an event that says it has begun, and one that lets it go on."""
    begun, release = threading.Event(), threading.Event()

    def hold(body: Any, **_: Any) -> None:
        if body[0] == (0,):
            begun.set()
            assert release.wait(50)

    with heard(signals.before_task_publish, hold):
        try:
            yield begun, release
        finally:
            release.set()


@contextmanager
def heard(signal: Any, receiver: Callable[..., Any]) -> Iterator[None]:
    signal.connect(receiver, weak=False)
    try:
        yield
    finally:
        signal.disconnect(receiver)


async def test_what_is_sent_at_the_same_time_shares_batches_and_each_message_arrives_once(connect, redis_url, sizes):
    client = connect(redis_url)
    await client.run(-1)
    results = await asyncio.gather(*(client.run(number) for number in range(250)))
    assert len({result.id for result in results}) == 250
    assert max(sizes) == 100
    assert len(sizes) < 100
    assert sorted(arrived(redis_url)) == list(range(-1, 250))


async def test_a_message_that_cannot_be_encoded_fails_alone(connect, redis_url):
    client = connect(redis_url)
    await client.run(0)
    outcomes = await asyncio.gather(client.run(1), client.run(object()), client.run(2), return_exceptions=True)
    assert isinstance(outcomes[1], ArgumentEncodingError)
    assert arrived(redis_url) == [0, 1, 2]


async def test_a_message_that_redis_refuses_fails_alone_and_no_other_is_sent_twice(connect, redis_url):
    client = connect(redis_url)
    await client.run(0)
    refused = with_options(client, queue="refused")
    with redis.Redis.from_url(redis_url) as server:
        server.set("refused", "no list")
        outcomes = await asyncio.gather(client.run(1), refused.run(9), client.run(2), return_exceptions=True)
    assert isinstance(outcomes[1], OperationalError)
    assert "WRONGTYPE" in str(outcomes[1])
    assert arrived(redis_url) == [0, 1, 2]


async def test_a_batch_whose_answer_is_lost_is_sent_again_and_its_signals_are_not(connect, redis_url, monkeypatch):
    client = connect(redis_url)
    await client.run(-1)
    send = RedisBatch.send
    failures = []

    def lose_once(batch: RedisBatch) -> list[Exception | None]:
        outcomes = send(batch)
        if len(outcomes) > 1 and not failures:
            failures.append(len(outcomes))
            raise redis.ConnectionError("lost")
        return outcomes

    monkeypatch.setattr(RedisBatch, "send", lose_once)
    announced: list[Any] = []
    with heard(signals.before_task_publish, lambda body, **_: announced.append(body[0][0])):
        results = await asyncio.gather(*(client.run(number) for number in range(10)))
    assert len(results) == 10
    assert failures
    assert sorted(announced) == list(range(10))
    assert set(arrived(redis_url)) == set(range(-1, 10))


async def test_a_broker_that_is_gone_fails_each_and_one_that_is_back_takes_each(connect):
    with own_redis() as server:
        client = connect(server.url)
        await client.run(0)
        server.stop()
        outcomes = await asyncio.gather(*(client.run(number) for number in range(20)), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {OperationalError}
        assert len({id(outcome) for outcome in outcomes}) == 20
        server.start()
        await asyncio.gather(*(client.run(number) for number in range(1, 20)))
        assert sorted(arrived(server.url)) == list(range(20))


async def test_who_is_cancelled_while_a_batch_is_on_its_way_sends_nothing(connect, redis_url):
    client = connect(redis_url)
    with held_up() as (begun, release):
        first = asyncio.ensure_future(client.run(0))
        await until(begun.is_set)
        others = [asyncio.ensure_future(client.run(number)) for number in (1, 2, 3)]
        await asyncio.sleep(0)
        others[1].cancel()
        release.set()
        outcomes = await asyncio.gather(first, *others, return_exceptions=True)
    assert [isinstance(outcome, asyncio.CancelledError) for outcome in outcomes] == [False, False, True, False]
    assert sorted(arrived(redis_url)) == [0, 1, 3]


async def test_who_is_cancelled_in_a_batch_takes_no_other_along(connect, redis_url):
    client = connect(redis_url)
    await client.run(-1)
    with held_up() as (begun, release):
        sending = [asyncio.ensure_future(client.run(number)) for number in range(4)]
        await until(begun.is_set)
        sending[0].cancel()
        sending[2].cancel()
        await asyncio.sleep(0)
        release.set()
        outcomes = await asyncio.gather(*sending, return_exceptions=True)
    assert [isinstance(outcome, asyncio.CancelledError) for outcome in outcomes] == [True, False, True, False]
    assert Counter(arrived(redis_url)) == Counter([-1, 1, 3])


async def test_a_deadline_is_each_messages_own(connect, redis_url):
    client = connect(redis_url)
    await client.run(-1)
    with held_up() as (begun, release):
        hasty = asyncio.ensure_future(with_options(client, publish_timeout=1).run(0))
        patient = asyncio.ensure_future(client.run(1))
        await until(begun.is_set)
        with pytest.raises(PublishTimeoutError):
            await hasty
        release.set()
        await patient
    assert arrived(redis_url) == [-1, 1]


async def test_a_batch_that_takes_long_does_not_hold_up_the_next(connect, redis_url):
    client = connect(redis_url)
    with held_up() as (begun, release):
        first = asyncio.ensure_future(client.run(0))
        await until(begun.is_set)
        await client.run(1)
        assert not first.done()
        release.set()
        await first
    assert sorted(arrived(redis_url)) == [0, 1]


async def test_those_who_hear_of_published_messages_hear_of_each_when_it_is_there(connect, redis_url, sizes):
    client = connect(redis_url)
    seen: list[bool] = []
    with redis.Redis.from_url(redis_url) as server:

        def look(headers: Any, **_: Any) -> None:
            seen.append(any(headers["id"].encode() in message for message in server.lrange("celery", 0, -1)))

        with heard(signals.after_task_publish, look):
            await asyncio.gather(*(client.run(number) for number in range(8)))
    assert seen == [True] * 8
    assert sizes == []
    assert sorted(arrived(redis_url)) == list(range(8))
