"""Redelivered messages begin a few at a time, in no order, and more as they do no harm."""

import random
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery.worker import state

from pico_celery_worker.consumer import suspects as module
from pico_celery_worker.consumer.suspects import Suspects


class Consumer:
    """Celery's consumer, as far as its timer and its prefetch limit are concerned."""

    def __init__(self) -> None:
        self.limit = 4
        self.calls: list[Any] = []
        self.timer = SimpleNamespace(call_repeatedly=self._repeat)
        self.qos = SimpleNamespace(increment_eventually=self._increment, decrement_eventually=self._decrement)

    def round(self) -> None:
        for call in tuple(self.calls):
            call()

    def _repeat(self, seconds: float, call: Any) -> Any:
        self.calls.append(call)
        return SimpleNamespace(cancel=lambda: self.calls.remove(call))

    def _increment(self) -> None:
        self.limit += 1

    def _decrement(self) -> None:
        self.limit -= 1


class Request:
    def __init__(self, number: int, acks_late: bool = True, redelivered: bool = True) -> None:
        self.id = str(number)
        self.task = SimpleNamespace(acks_late=acks_late)
        self.message = SimpleNamespace(
            headers={"id": self.id}, delivery_info={"redelivered": redelivered}, channel=None, delivery_tag=self.id
        )


class Place:
    """Where requests are received and begin."""

    def __init__(self) -> None:
        self.consumer = Consumer()
        self.began: list[Any] = []
        self.suspects = Suspects(self.consumer, self.began.append)
        self.ended = 0

    def receive(self, *requests: Any) -> None:
        for request in requests:
            state.requests[request.id] = request
            self.suspects.receive(request)
        began = len(self.began)
        self.consumer.round()  # in which the others come
        assert len(self.began) == began

    def end(self) -> None:
        """End all that runs."""
        for request in self.began[self.ended :]:
            del state.requests[request.id]
        self.ended = len(self.began)


@pytest.fixture
def place() -> Iterator[Place]:
    state.requests.clear()
    yield Place()
    state.requests.clear()
    state.should_stop = None


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    now = SimpleNamespace(time=1000.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: now.time)
    return now


def test_what_is_new_or_acknowledged_early_begins_at_once(place: Place) -> None:
    requests = [Request(1, redelivered=False), Request(2, acks_late=False), Request(3, False, False)]
    place.receive(*requests)
    assert place.began == requests
    assert (place.consumer.limit, place.consumer.calls) == (4, [])


def test_twice_as_many_begin_each_time_that_the_others_have_ended(place: Place) -> None:
    place.receive(*(Request(number) for number in range(20)))
    assert (place.began, place.consumer.limit) == ([], 24)
    counts = []
    for _ in range(6):
        place.consumer.round()
        place.consumer.round()  # in which nothing has ended
        counts.append(len(place.began))
        place.end()
    assert counts == [1, 3, 7, 15, 20, 20]
    assert (place.consumer.limit, place.consumer.calls) == (4, [])


def test_no_order_decides_which_begins(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "choice", lambda keys: keys[-1])
    requests = [Request(number) for number in range(3)]
    place.receive(*requests)
    for _ in range(3):
        place.consumer.round()
        place.end()
    assert place.began == [requests[2], requests[1], requests[0]]


def test_what_runs_for_long_is_harmless(place: Place, clock: Any) -> None:
    place.receive(*(Request(number) for number in range(10)))
    place.consumer.round()
    clock.time += 9
    place.consumer.round()
    assert len(place.began) == 1
    clock.time += 2
    place.consumer.round()
    assert len(place.began) == 3


def test_later_ones_find_what_was_learned(place: Place) -> None:
    place.receive(*(Request(number) for number in range(7)))
    for _ in range(4):
        place.consumer.round()
        place.end()
    place.receive(*(Request(number) for number in range(7, 15)))
    place.consumer.round()
    assert len(place.began) == 15


def test_what_waits_goes_with_its_connection(place: Place) -> None:
    place.receive(*(Request(number) for number in range(5)))
    place.suspects.forget()
    place.consumer.round()
    assert (place.began, place.consumer.calls) == ([], [])


def test_nothing_begins_in_a_worker_that_stops(place: Place) -> None:
    place.receive(Request(1))
    state.should_stop = 0
    place.consumer.round()
    assert place.began == []


def test_it_is_said_once(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", module.logger.name)
    place.receive(*(Request(number) for number in range(3)))
    for _ in range(3):
        place.consumer.round()
        place.end()
    [record] = caplog.records
    assert record.getMessage().startswith("3 messages were delivered before")


def test_one_that_is_delivered_twice_begins_once(place: Place) -> None:
    first, second = Request(1), Request(1)
    place.receive(first)
    place.suspects.receive(second)
    state.requests[second.id] = second
    assert place.consumer.limit == 5
    place.consumer.round()
    assert place.began == [second]
    assert place.consumer.limit == 4
