"""A worker whose thread is held up for ever ends all the same when it is told to stop."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pico_celery_worker.lifecycle import blocked
from pico_celery_worker.lifecycle.blocked import BlockedExit
from pico_celery_worker.loop.watchdog import UnpatchedThreading

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs signals")


class ProcessEndedError(BaseException):
    pass


class Watcher:
    """A native thread in the hands of the test, which looks when it is told to."""

    def __init__(self) -> None:
        self.watch: Callable[[], Any] | None = None
        self.native = UnpatchedThreading(self._start, threading.get_ident, self._sleep)
        self.looks = 0

    def _start(self, function: Callable[[], Any], arguments: tuple[()]) -> None:
        self.watch = function

    def _sleep(self, seconds: float) -> None:
        self.looks -= 1
        if self.looks < 0:
            raise InterruptedError

    def look(self) -> None:
        assert self.watch is not None
        self.looks = 1
        with pytest.raises(InterruptedError):
            self.watch()


@pytest.fixture
def written(monkeypatch) -> list[bytes]:
    """What is said before the process ends."""
    texts: list[bytes] = []

    def end(code: int) -> None:
        raise ProcessEndedError(code)

    monkeypatch.setattr(blocked.os, "write", lambda file, text: texts.append(text))
    monkeypatch.setattr(blocked.os, "_exit", end)
    return texts


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
def blocked_exit(watcher) -> Iterator[BlockedExit]:
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    made = BlockedExit(watcher.native, 0.01, lambda: "task tests.run")
    made.start()
    yield made
    made.stop()
    signal.signal(signal.SIGTERM, before)
    assert signal.set_wakeup_fd(-1) == -1


def test_a_worker_that_is_not_asked_to_stop_goes_on(blocked_exit, watcher, written):
    os.kill(os.getpid(), signal.SIGCHLD)
    vars(blocked_exit)["_alive"] = 0
    watcher.look()
    assert written == []


def test_a_worker_that_goes_on_may_take_its_time_to_stop(blocked_exit, watcher, written):
    os.kill(os.getpid(), signal.SIGTERM)
    blocked_exit.beat()
    vars(blocked_exit)["_longest"] = 60
    watcher.look()
    assert written == []


def test_a_worker_that_is_held_up_ends_and_says_why(blocked_exit, watcher, written, monkeypatch):
    os.kill(os.getpid(), signal.SIGTERM)
    vars(blocked_exit)["_alive"] = 0
    clock = iter((100.0, 100.0, 145.0))
    monkeypatch.setattr(blocked.time, "monotonic", lambda: next(clock))
    watcher.looks = 2
    with pytest.raises(ProcessEndedError) as ended:
        watcher.watch()
    assert ended.value.args == (1,)
    assert b"".join(written) == (
        b"The worker is asked to stop, but for 45 s the thread of its tasks has been held up by task tests.run\n"
        b"It ends now as if it were killed. See pico_blocked_timeout.\n"
    )


def test_it_leaves_signals_to_whoever_hears_of_them_already(watcher):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    try:
        blocked_exit = BlockedExit(watcher.native, 1, str)
        blocked_exit.start()
        assert watcher.watch is None
        blocked_exit.stop()
    finally:
        assert signal.set_wakeup_fd(-1) == writer
        os.close(reader)
        os.close(writer)


def test_another_thread_than_the_main_one_is_not_watched(watcher):
    thread = threading.Thread(target=BlockedExit(watcher.native, 1, str).start)
    thread.start()
    thread.join()
    assert watcher.watch is None
