"""What is used of kombu's channel to Redis."""

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from pico_celery_client.publishing.producers import producer_of


@pytest.fixture
def app(redis_url) -> Iterator[Celery]:
    app = Celery("tests", broker=redis_url, set_as_current=False)
    yield app
    app.close()


def test_one_client_serves_all_messages_until_the_connections_are_others(app):
    with producer_of(app) as producer:
        channel: Any = producer.channel
        with channel.conn_or_acquire() as first, channel.conn_or_acquire() as second:
            assert first is second
        with channel.conn_or_acquire(client="another") as given:
            assert given == "another"
        channel._disconnect_pools()
        with channel.conn_or_acquire() as third:
            assert third is not first
            assert third.ping()


def test_messages_are_collected_with_all_of_their_commands_and_sent_together(app):
    with producer_of(app) as producer, producer.channel.conn_or_acquire() as client:
        producer.channel._expires = {"expiring": 60_000}
        with producer.channel.collecting() as batch:
            producer.publish("one", routing_key="plain")
            producer.publish("two", routing_key="expiring", priority=9)
            assert not client.exists("plain")
            assert batch.size > 0
            assert batch.send() == [None, None]
            assert batch.size == 0
        assert client.llen("plain") == 1
        producer.publish("three", routing_key="plain")
        assert client.llen("plain") == 2
        assert any(client.pttl(key) > 0 for key in client.keys("expiring*"))


def test_a_message_that_is_not_published_is_not_in_the_batch(app, monkeypatch):
    with producer_of(app) as producer:
        channel = producer.channel
        with channel.collecting() as batch:
            producer.publish("one", routing_key="plain")
            with monkeypatch.context() as patch:
                patch.setattr(channel, "_put", lambda *_, **__: int("no number"))
                with pytest.raises(ValueError, match="no number"):
                    producer.publish("two", routing_key="plain")
            producer.publish("three", routing_key="plain")
            assert batch.send() == [None, None]
        with channel.conn_or_acquire() as client:
            assert client.llen("plain") == 2
