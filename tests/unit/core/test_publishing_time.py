"""Every message says when it was published, and is not believed whatever it says."""

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from celery import Celery, signals

from pico_celery_core.publishing_time import PUBLISHED_AT, note_publishing_times, published_at


@pytest.fixture
def app():
    with Celery("publishing", broker="memory://", set_as_current=False) as app:
        yield app


@pytest.fixture
def published():
    """The headers of what is published."""
    found: list[Any] = []

    def note(headers: Any = None, **_: Any) -> None:
        found.append(dict(headers))

    signals.after_task_publish.connect(note)
    yield found
    signals.after_task_publish.disconnect(note)


def test_each_message_has_the_time_of_its_own_publishing(app, published):
    note_publishing_times()
    note_publishing_times()
    before = time.time()

    app.send_task("clock.tell")
    app.send_task("clock.tell", headers={PUBLISHED_AT: 1.0, "tenant": "a"})  # as a retry has them

    times = [headers[PUBLISHED_AT] for headers in published]
    assert before - 1 < times[0] <= times[1] < time.time() + 1
    assert published[1]["tenant"] == "a"


def test_the_time_of_amqp_does_as_well():
    assert published_at({}, {"timestamp": 1_700_000_000}) == 1_700_000_000
    assert published_at({}, {"timestamp": datetime.fromtimestamp(1_700_000_000, UTC)}) == 1_700_000_000
    assert published_at({}, {"timestamp": datetime(2023, 11, 14, 22, 13, 20)}) == 1_700_000_000  # noqa: DTZ001
    assert published_at({PUBLISHED_AT: 5.0}, {"timestamp": 1_700_000_000}) == 5


@pytest.mark.parametrize(
    ("eta", "due"),
    [
        ("2023-11-14T22:13:50+00:00", 1_700_000_030),
        ("2023-11-14T23:13:50+01:00", 1_700_000_030),
        ("2023-11-14T22:13:50", 1_700_000_030),
        ("2023-11-14T22:13:00+00:00", 1_700_000_000),  # before it was published
        ("tomorrow", 1_700_000_000),
        (17, 1_700_000_000),
        (None, 1_700_000_000),
    ],
)
def test_a_message_waits_from_its_eta(eta, due):
    assert published_at({PUBLISHED_AT: 1_700_000_000, "eta": eta}, {}) == due


@pytest.mark.parametrize("value", [None, "1700000000", True, float("nan"), float("inf"), -1, 0, [], 10**400])
def test_what_is_no_time_is_ignored(value):
    assert published_at({PUBLISHED_AT: value}, {}) is None
