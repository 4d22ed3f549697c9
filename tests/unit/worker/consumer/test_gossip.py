"""Events of other workers that cannot be read end nothing."""

import json
import zlib
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.worker.consumer.gossip import Gossip
from kombu import Connection, Message

from pico_celery_worker.consumer.consumer import GreenConsumer, ReliableConsumer
from pico_celery_worker.consumer.gossip import TolerantGossip
from tests.unit.worker import requests
from tests.unit.worker.applications import app_of


@pytest.fixture
def gossip(monkeypatch) -> Any:
    """Make a step that reads events, of Celery's or of ours."""
    apps: list[Celery] = []

    def make(kind: Any) -> Any:
        app = app_of(broker_url="redis://nowhere")
        apps.append(app)
        timer = SimpleNamespace(call_repeatedly=lambda *args: None)
        return kind(requests.consumer_of(app, timer=timer), without_gossip=False)

    yield make
    for app in apps:
        app.close()


def event(body: Any, **headers: Any) -> Message:
    made = Message(body, headers=headers, content_type="application/json", content_encoding="utf-8", delivery_info={})
    made.delivery_info["routing_key"] = "worker.heartbeat"
    made.accept = {"application/json"}
    return made


BAD = {
    "not JSON": event("{"),
    "a list": event("[]"),
    "without a host": event("{}"),
    "of a host that is none": event(json.dumps({"hostname": [1]}), hostname={}),
}


@pytest.mark.parametrize("message", BAD.values(), ids=BAD)
def test_an_event_that_cannot_be_read_is_dropped(gossip, caplog, message):
    consumer_of(gossip(TolerantGossip)).on_message(message)
    assert "cannot be read and is dropped" in caplog.text


def consumer_of(step: Any) -> Any:
    """Return what reads a step's events, by a channel that passes on messages as they are."""
    [consumer] = step.get_consumers(Connection("memory://").channel())
    consumer.channel = None
    return consumer


@pytest.mark.parametrize("body", [zlib.compress(b"1")[:-2], b"junk"])
def test_so_is_one_that_cannot_be_decompressed(gossip, caplog, body):
    consumer_of(gossip(TolerantGossip))._receive_callback(event(body, compression="gzip"))
    assert "cannot be read and is dropped" in caplog.text
    with pytest.raises((zlib.error, ValueError)):  # or this step is no longer needed
        consumer_of(gossip(Gossip))._receive_callback(event(body, compression="gzip"))


def test_an_event_that_can_be_read_is_taken_note_of(gossip):
    step = gossip(TolerantGossip)
    told = {"type": "worker-heartbeat", "hostname": "there", "timestamp": 1, "utcoffset": 0, "pid": 1, "clock": 5}
    consumer_of(step).on_message(event(json.dumps({**told, "local_received": 1}), hostname="there"))
    assert "there" in step.state.workers


@pytest.mark.parametrize("kind", [ReliableConsumer, GreenConsumer])
def test_our_consumers_have_it_in_the_place_of_celerys(kind):
    assert requests.consumer_of(app_of(), kind=kind).blueprint.claim_steps()[Gossip.name] is TolerantGossip
