"""What becomes of a task in a greenlet is told to its request, whatever it is."""

from collections.abc import Callable
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from pico_ioc import component

from pico_celery import task
from pico_celery_worker.pools.outcomes import contained, raised, told
from tests.unit.worker.requests import info_of, message_of, request_of


@component(scope="prototype")
class Tasks:
    @task("late", acks_late=True)
    async def late(self) -> None: ...


@pytest.fixture
def request_for(app, container) -> Callable[[], Any]:
    container(Tasks)
    return lambda: request_of(app, message_of("late"))


class Told:
    """What a request was told."""

    def __init__(self) -> None:
        self.outcomes: list[Any] = []
        self.errors: list[Any] = []
        self.tell = told(self.outcomes.append, self.errors.append)


def test_what_a_tracer_returns_is_returned():
    assert contained(lambda *args, **kwargs: (args, kwargs))(1, two=2) == ((1,), {"two": 2})


def test_what_a_tracer_raises_is_returned_and_logged(caplog):
    def fail() -> None:
        raise KeyError("x")

    info = contained(fail)()
    assert isinstance(info, ExceptionInfo)
    assert info.type is KeyError
    assert isinstance(raised(info), KeyError)
    assert "in fail" in info.traceback
    assert "A task failed outside of its handler" in caplog.text


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_is_no_exception_is_raised(error):
    def leave() -> None:
        raise error

    with pytest.raises(error):
        contained(leave)()


def test_a_value_is_told_as_it_is():
    request = Told()
    value = object()
    request.tell((False, value, 1.5))
    assert request.outcomes == [(False, value, 1.5)]
    assert request.errors == []


def test_a_failure_of_the_handler_is_told_as_the_tracer_tells_it():
    request = Told()
    info = info_of(KeyError("x"))
    request.tell((True, info, 1.5))
    assert request.outcomes == [(True, info, 1.5)]
    assert isinstance(raised(info), KeyError)


def test_what_has_ended_the_tracer_is_told_as_an_error():
    request = Told()
    info = info_of(KeyError("x"))
    request.tell(info)
    assert (request.outcomes, request.errors) == ([], [info])


@pytest.mark.parametrize("outcome", [lambda info: info, lambda info: (True, info, 0.0)], ids=["tracer", "handler"])
@pytest.mark.parametrize("wrapped", [True, False])
def test_a_lack_of_memory_is_told_as_another_error(outcome, wrapped):
    request = Told()
    info = info_of(MemoryError("too much"))
    if not wrapped:
        info.exception = MemoryError("too much")
    request.tell(outcome(info))
    assert len(request.outcomes) + len(request.errors) == 1
    assert isinstance(info.exception, RuntimeError)
    assert str(info.exception) == "MemoryError('too much')"


def test_a_value_that_is_an_exception_info_is_told_as_a_value():
    request = Told()
    info = info_of(MemoryError())
    request.tell((False, info, 0.0))
    assert request.outcomes == [(False, info, 0.0)]
    assert isinstance(raised(info), MemoryError)


@pytest.mark.parametrize("outcome", [None, (), (True, None, 0.0), (1, 2, 3, 4)])
def test_what_cannot_be_told_is_logged_and_nobody_is_harmed(outcome, caplog):
    Told().tell(outcome)
    assert "What became of a task could not be told" in caplog.text


@pytest.mark.parametrize("callback", [0, 1])
def test_a_request_that_fails_to_take_it_is_logged(callback, caplog):
    def fail(_: Any) -> None:
        raise ValueError("nobody listens")

    outcome = [(False, 3, 0.0), info_of(KeyError("x"))][callback]
    told(fail, fail)(outcome)
    assert "What became of a task could not be told" in caplog.text
    assert "nobody listens" in caplog.text


@pytest.mark.parametrize("outcome", [lambda info: info, lambda info: (True, info, 0.0)], ids=["tracer", "handler"])
@pytest.mark.parametrize("error", [KeyError("x"), MemoryError("too much")])
def test_celerys_request_takes_all_of_them(request_for, outcome, error, caplog):
    request = request_for()
    told(request.on_success, request.on_failure)(outcome(info_of(error)))
    assert request.message.channel.answers == ["acknowledged"]
    assert "could not be told" not in caplog.text


def test_celerys_request_raises_a_lack_of_memory_again(request_for):
    """Fails when Celery no longer does what `told` is for."""
    request = request_for()
    with pytest.raises(MemoryError):
        request.on_success((True, info_of(MemoryError("too much")), 0.0))
    assert request.message.channel.answers == []
