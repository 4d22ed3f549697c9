"""What must hold of signals under gevent. Each function is a test, run by `test_signal_handlers.py`."""

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent import hub
from gevent.event import Event

from pico_celery_worker.lifecycle.os_signals import SignalHandlers, _Deferred

SIGNALS = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT)


@contextlib.contextmanager
def _handlers(handler: Any) -> Iterator[SignalHandlers]:
    """Install a handler for SIGTERM, defer it, and restore all as it was."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGTERM, handler)
    try:
        yield SignalHandlers()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        for number, previous in before.items():
            signal.signal(number, previous)


def _strike(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


def a_handler_may_wait_although_the_signal_strikes_the_hub() -> None:
    handled = Event()
    numbers: list[int] = []

    def handle(number: int, frame: Any) -> None:
        gevent.sleep(0.001)
        numbers.append(number)
        handled.set()

    with _handlers(handle) as handlers:
        handlers.defer()
        gevent.get_hub().loop.run_callback(_strike)
        assert handled.wait(60)
        assert numbers == [signal.SIGTERM]


def without_that_a_handler_may_not_wait() -> None:
    """Fails when gevent no longer does what `SignalHandlers` is for."""
    struck, errors = Event(), []

    def handle(number: int, frame: Any) -> None:
        try:
            gevent.sleep(0.001)
        except BaseException as error:  # noqa: BLE001
            errors.append(type(error).__name__)
        struck.set()

    with _handlers(handle):
        gevent.get_hub().loop.run_callback(_strike)
        assert struck.wait(60)
    assert errors == ["BlockingSwitchOutError"]


def what_a_handler_raises_is_raised_in_the_main_greenlet() -> None:
    error = KeyError("gevent itself would pass on a SystemExit, and nothing else")

    def handle(number: int, frame: Any) -> None:
        gevent.sleep(0)
        raise error

    with _handlers(handle) as handlers:
        handlers.defer()
        bystander = gevent.spawn(gevent.sleep, 10)
        gevent.spawn(_strike)
        with pytest.raises(KeyError) as raised:
            gevent.sleep(10)
        assert raised.value is error
        assert not bystander.dead
        bystander.kill()


def each_signal_is_handled_once() -> None:
    calls: list[int] = []
    handled = Event()

    def handle(number: int, frame: Any) -> None:
        calls.append(number)
        handled.set()

    with _handlers(handle) as handlers:
        handlers.defer()
        handlers.defer()
        assert signal.getsignal(signal.SIGTERM)._handler is handle
        for count in (1, 2):
            handled.clear()
            _strike()
            assert handled.wait(60)
            gevent.sleep(0)
            assert calls == [signal.SIGTERM] * count


def what_a_handler_installs_is_deferred_too() -> None:
    first, second = Event(), Event()

    def handle_again(number: int, frame: Any) -> None:
        gevent.sleep(0.001)
        second.set()

    def handle(number: int, frame: Any) -> None:
        signal.signal(signal.SIGTERM, handle_again)
        signal.signal(signal.SIGINT, handle_again)
        first.set()
        second.wait()

    with _handlers(handle) as handlers:
        handlers.defer()
        _strike()
        assert first.wait(60)
        gevent.get_hub().loop.run_callback(_strike)
        assert second.wait(60)
        assert isinstance(signal.getsignal(signal.SIGTERM), _Deferred)
        assert isinstance(signal.getsignal(signal.SIGINT), _Deferred)


def a_signal_that_follows_at_once_is_kept_back_until_its_handler_is_deferred() -> None:
    handled = Event()
    by: list[Any] = []

    def handle_again(number: int, frame: Any) -> None:
        by.append(gevent.getcurrent())
        handled.set()

    def handle(number: int, frame: Any) -> None:
        signal.signal(signal.SIGTERM, handle_again)
        _strike()

    with _handlers(handle) as handlers:
        handlers.defer()
        _strike()
        assert signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, [])
        assert handled.wait(60)
        assert by[0] is not hub.get_hub()
        assert by[0] is not gevent.getcurrent()
        assert not {*SIGNALS} & signal.pthread_sigmask(signal.SIG_BLOCK, [])


def what_is_ignored_or_left_to_the_system_stays_so() -> None:
    with _handlers(signal.SIG_IGN) as handlers:
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
        handlers.defer()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGQUIT) is signal.SIG_DFL


def other_signals_are_left_alone() -> None:
    def handle(number: int, frame: Any) -> None: ...

    before = signal.signal(signal.SIGUSR2, handle)
    try:
        with _handlers(handle) as handlers:
            handlers.defer()
            assert signal.getsignal(signal.SIGUSR2) is handle
    finally:
        signal.signal(signal.SIGUSR2, before)
