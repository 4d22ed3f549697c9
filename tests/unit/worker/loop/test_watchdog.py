"""A loop that is held up is noticed, and by what."""

import asyncio
import gc
import logging
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from pico_celery_worker.loop import watchdog as lag
from pico_celery_worker.loop.watchdog import LoopWatchdog, UnpatchedThreading

LONGEST = 0.02


class Watcher:
    """A native thread in the hands of the test, which looks when it is told to."""

    def __init__(self) -> None:
        self.watch: Callable[[], Any] | None = None
        self.slept: list[float] = []
        self.native = UnpatchedThreading(self._start, threading.get_ident, self._sleep)
        self._looks = 0
        self.stop: Callable[[], None] = lambda: None

    def _start(self, function: Callable[[], Any], arguments: tuple[()]) -> None:
        assert arguments == ()
        self.watch = function

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if self._looks == 0:
            self.stop()
        self._looks -= 1

    def look(self, times: int = 1) -> None:
        """Look so many times, and end."""
        assert self.watch is not None
        self._looks = times
        self.watch()


@pytest.fixture
async def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
async def watch(watcher) -> AsyncIterator[LoopWatchdog]:
    watch = LoopWatchdog(asyncio.get_running_loop(), LONGEST, watcher.native)
    watcher.stop = lambda: vars(watch).update(_stopped=True)
    watch.start()
    yield watch
    watch.stop()


def hold_up_the_loop(seconds: float) -> None:
    time.sleep(seconds)


async def beaten(watch: LoopWatchdog) -> None:
    """Wait until the loop has beaten."""
    due = watch._due
    while watch._due == due:  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_a_loop_that_is_not_held_up_is_not_mentioned(watch, watcher, caplog):
    await beaten(watch)
    watch._due = time.monotonic() + 60
    watcher.look(3)
    await asyncio.sleep(0)
    assert watcher.slept == [LONGEST / 4] * 4
    assert watch._culprit is None
    assert caplog.records == []


async def test_who_holds_the_loop_up_is_named_with_its_stack(watch, watcher, caplog):
    asyncio.current_task().set_name("tests.run[an-id]")
    hold_up_the_loop(LONGEST * 2)
    watcher.look()
    assert caplog.records == []  # it is the loop that logs, when it goes on
    await beaten(watch)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("The event loop was held up for 0.")
    assert "by task tests.run[an-id]:\n" in record.getMessage()
    assert "test_who_holds_the_loop_up_is_named_with_its_stack" in record.getMessage()


async def test_it_is_said_once(watch, watcher, caplog):
    hold_up_the_loop(LONGEST * 2)
    watcher.look(3)
    await beaten(watch)
    await beaten(watch)
    assert len(caplog.records) == 1


async def test_a_callback_that_holds_the_loop_up_is_no_task(watch, watcher, caplog):
    def hold() -> None:
        hold_up_the_loop(LONGEST * 2)
        watcher.look()

    asyncio.get_running_loop().call_soon(hold)
    await asyncio.sleep(0)
    await beaten(watch)
    assert "by something that is no asyncio task:\n" in caplog.text
    assert "hold" in caplog.text


async def test_the_last_and_the_worst_delay_are_known(watch):
    hold_up_the_loop(LONGEST * 3)
    await beaten(watch)
    worst = watch.worst
    assert watch.last == worst
    assert worst >= LONGEST * 2
    watch._timer.cancel()
    watch._due = time.monotonic() + 60
    watch._beat()
    assert watch.last == 0
    assert watch.worst == worst


async def test_what_may_never_go_on_is_written_without_the_logger(watch, watcher, caplog, monkeypatch):
    written: list[bytes] = []
    monkeypatch.setattr(os, "write", lambda file, text: written.append(text) if file == 2 else None)
    watch._due = time.monotonic() - LONGEST * 11
    watcher.look(4)
    assert len(written) == 1
    assert written[0].startswith(b"The event loop has been held up for 0 s by task ")
    assert caplog.records == []
    watch._due = time.monotonic() - LONGEST * 101
    vars(watch).update(_stopped=False)
    watcher.look(4)
    assert len(written) == 2


async def test_a_watch_that_ends_beats_no_more_and_sees_nothing(watch, watcher):
    await beaten(watch)
    watch.stop()
    assert watch._timer.cancelled()
    watch._due = 0
    watcher.look(3)
    assert watch._culprit is None
    assert watcher.slept == []


async def test_a_watch_that_has_not_begun_can_end(watcher):
    LoopWatchdog(asyncio.get_running_loop(), LONGEST, watcher.native).stop()
    assert watcher.watch is None


@pytest.mark.parametrize("collects", [True, False])
async def test_no_garbage_is_collected_while_the_frames_are_looked_at(monkeypatch, collects):
    """Python 3.11 may wait for ever then, and has done so in a run of these tests."""
    collected: list[bool] = []
    monkeypatch.setattr(sys, "_current_frames", lambda: collected.append(gc.isenabled()) or {})
    was = gc.isenabled()
    (gc.enable if collects else gc.disable)()
    try:
        lag.held_up_by(asyncio.get_running_loop(), threading.get_ident(), None)
        assert collected == [False]
        assert gc.isenabled() is collects
    finally:
        (gc.enable if was else gc.disable)()


async def test_a_real_thread_sees_it_while_the_loop_stands(caplog):
    noticed = threading.Event()

    class Watch(LoopWatchdog):
        def _describe(self) -> str:
            found = super()._describe()
            noticed.set()
            return found

    def start(function: Callable[[], Any], arguments: tuple[()]) -> None:
        thread = threading.Thread(target=function, args=arguments)
        threads.append(thread)
        thread.start()

    threads: list[threading.Thread] = []
    watch = Watch(asyncio.get_running_loop(), 0.1, UnpatchedThreading(start, threading.get_ident, time.sleep))
    watch.start()
    assert noticed.wait(60)  # holds the loop up
    await asyncio.wait_for(beaten(watch), 60)
    watch.stop()
    await asyncio.to_thread(threads[0].join)
    assert lag.logger.name in {record.name for record in caplog.records}
    assert "noticed.wait(60)" in caplog.text
