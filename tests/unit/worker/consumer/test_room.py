"""Where a process can open no more files, messages wait while others run, and fewer run from then on."""

import logging
from collections.abc import Callable

import pytest
from celery.worker import state

from pico_celery_worker.consumer import room as module
from pico_celery_worker.consumer.room import Room


class World:
    """A process: how many tasks run, how many files each has open, and what time it is."""

    def __init__(self, files: int, each: int) -> None:
        self.files, self.each = files, each
        self.running = 0
        self.now = 100.0
        self.looks = 0
        self.on_pause: Callable[[], None] = self.end_one

    def has_room(self) -> bool:
        self.looks += 1
        return self.files - self.running * self.each >= 2

    def end_one(self) -> None:
        self.running = max(self.running - 1, 0)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if seconds:
            self.on_pause()


@pytest.fixture
def make() -> Callable[..., tuple[World, Room]]:
    def make(files: int = 10, each: int = 1) -> tuple[World, Room]:
        world = World(files, each)
        return world, Room(world.has_room, lambda: world.running, lambda: world.now, world.sleep)

    return make


def begin(world: World, room: Room) -> None:
    room.wait()
    world.running += 1


def test_where_there_is_room_nothing_waits_and_few_looks_are_taken(make, caplog):
    world, room = make(files=10_000)
    for _ in range(1000):
        begin(world, room)
    assert (world.now, world.looks, caplog.records) == (100.0, 1, [])
    world.now += 1
    begin(world, room)
    assert world.looks == 2


def test_messages_wait_for_room_and_fewer_tasks_run_from_then_on(make, caplog):
    caplog.set_level(logging.INFO, module.__name__)
    world, room = make(files=30, each=5)
    most = []
    for _ in range(60):
        world.now += 0.01
        begin(world, room)
        most.append(world.running)
    assert max(most) == 6
    assert most[20:].count(6) < 5
    (told,) = caplog.records
    assert (told.levelname, "with 6 tasks running: it takes fewer" in told.getMessage()) == ("WARNING", True)


def test_it_recovers_step_by_step_and_says_so(make, caplog):
    caplog.set_level(logging.INFO, module.__name__)
    world, room = make(files=30, each=5)
    for _ in range(10):
        world.now += 0.01
        begin(world, room)
    world.files = 1000
    for _ in range(20):
        world.now += 10
        begin(world, room)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert world.running > 6


def test_where_none_runs_a_message_does_not_wait(make):
    world, room = make(files=0)
    room.wait()
    assert world.now == 100.0


def test_a_worker_that_stops_waits_no_longer(make, monkeypatch):
    world, room = make(files=0)
    world.running = 1
    world.on_pause = lambda: monkeypatch.setattr(state, "should_stop", 0)
    room.wait()
    assert world.running == 1


def test_the_files_and_the_tasks_are_those_of_the_process(monkeypatch):
    assert module._has_room()
    assert module._active_tasks() == len(state.active_requests)

    def none(files: int) -> None:
        assert files == 2
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(module, "check_room", none)
    assert not module._has_room()
