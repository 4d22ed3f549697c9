"""A job reports whatever becomes of its task, and is cancelled whenever that is asked for."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from billiard.exceptions import Terminated
from pico_ioc import component

from pico_celery import task
from pico_celery_worker.loop import close_runner, current_runner
from pico_celery_worker.loop.cancellation import CancelScope
from pico_celery_worker.pools.job import CancellableJob, Jobs, TaskJob, raised
from tests.unit.worker.requests import info_of, message_of, request_of


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    yield Jobs()
    close_runner()


class Body:
    """A coroutine that waits until it is cancelled, and the function that waits for it."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.seen: list[str] = []

    async def wait(self) -> str:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.seen.append("cleaned up")
        return "never"

    def __call__(self) -> Any:
        cancel_scope = CancelScope()
        return current_runner().run(cancel_scope.guard(self.wait()), cancel_scope)


def job_of(jobs: Jobs, target: Callable[..., Any]) -> CancellableJob:
    return CancellableJob(jobs, target, pytest.fail, pytest.fail)


def in_thread(run: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    outcome: list[Any] = []
    thread = threading.Thread(target=lambda: outcome.append(run()))
    thread.start()
    return thread, outcome


def assert_terminated(outcome: Any) -> None:
    failed, info, _ = outcome
    assert failed
    assert isinstance(info, ExceptionInfo)
    assert info.type is Terminated
    assert isinstance(info.exception.exc, Terminated)


def test_a_job_that_runs_is_cancelled_and_counts_as_terminated(jobs):
    body = Body()
    job = job_of(jobs, body)
    thread, outcome = in_thread(job.run)
    assert body.began.wait(60)
    jobs.cancel(job.number, 5)
    assert body.seen == ["cleaned up"]
    thread.join(60)
    assert_terminated(outcome[0])


def test_a_job_that_is_cancelled_before_it_begins_does_nothing(jobs):
    body = Body()
    job = job_of(jobs, body)
    jobs.cancel(job.number)
    assert_terminated(job.run())
    assert not body.began.is_set()


def test_a_job_that_has_ended_is_left_alone(jobs):
    job = job_of(jobs, lambda: (False, 7, 0.1))
    assert job.run() == (False, 7, 0.1)
    jobs.cancel(job.number)
    jobs.cancel(job.number, 5)


def test_all_are_cancelled_at_once(jobs):
    bodies = [Body() for _ in range(3)]
    threads = [in_thread(job_of(jobs, body).run) for body in bodies]
    assert all(body.began.wait(60) for body in bodies)
    jobs.cancel_all(5)
    assert [body.seen for body in bodies] == [["cleaned up"]] * 3
    for thread, outcome in threads:
        thread.join(60)
        assert_terminated(outcome[0])


def test_what_cannot_be_cancelled_is_not_waited_for_without_end(jobs):
    let_go = threading.Event()
    job = job_of(jobs, lambda: let_go.wait(60))
    thread, outcome = in_thread(job.run)
    jobs.cancel_all(0.01)
    assert outcome == []
    let_go.set()
    thread.join(60)
    assert outcome == [True]


def test_a_cancellation_that_nobody_asked_for_is_passed_on(jobs):
    def cancelled() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        job_of(jobs, cancelled).run()


def test_the_outer_of_two_coroutines_is_cancelled(jobs):
    """As where a handler runs another task by blocking code."""
    body, inner = Body(), CancelScope()

    async def at_once() -> int:
        return 7

    async def outer() -> str:
        loop = asyncio.get_running_loop()
        assert await asyncio.to_thread(lambda: current_runner().run(inner.guard(at_once()), inner)) == 7
        assert loop is asyncio.get_running_loop()
        return await body.wait()

    def wait() -> Any:
        cancel_scope = CancelScope()
        return current_runner().run(cancel_scope.guard(outer()), cancel_scope)

    job = job_of(jobs, wait)
    thread, outcome = in_thread(job.run)
    assert body.began.wait(60)
    jobs.cancel(job.number, 5)
    thread.join(60)
    assert_terminated(outcome[0])


@component(scope="prototype")
class Tasks:
    @task("late", acks_late=True)
    async def late(self) -> None: ...


@pytest.fixture
def request_for(app, container) -> Callable[[], Any]:
    container(Tasks)
    return lambda: request_of(app, message_of("late"))


class Reported:
    """What a request gets of a job."""

    def __init__(self) -> None:
        self.outcomes: list[Any] = []
        self.errors: list[Any] = []
        self.tell = TaskJob(pytest.fail, self.outcomes.append, self.errors.append).report


def run_in_job(target: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return TaskJob(target, pytest.fail, pytest.fail).run(*args, **kwargs)


def test_what_a_tracer_returns_is_returned():
    assert run_in_job(lambda *args, **kwargs: (args, kwargs), 1, two=2) == ((1,), {"two": 2})


def test_what_a_tracer_raises_is_returned_and_logged(caplog):
    def fail() -> None:
        raise KeyError("x")

    info = run_in_job(fail)
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
        run_in_job(leave)


def test_a_value_is_reported_as_it_is():
    request = Reported()
    value = object()
    request.tell((False, value, 1.5))
    assert request.outcomes == [(False, value, 1.5)]
    assert request.errors == []


def test_a_failure_of_the_handler_is_reported_as_the_tracer_tells_it():
    request = Reported()
    info = info_of(KeyError("x"))
    request.tell((True, info, 1.5))
    assert request.outcomes == [(True, info, 1.5)]
    assert isinstance(raised(info), KeyError)


def test_what_has_ended_the_tracer_is_reported_as_an_error():
    request = Reported()
    info = info_of(KeyError("x"))
    request.tell(info)
    assert (request.outcomes, request.errors) == ([], [info])


@pytest.mark.parametrize("outcome", [lambda info: info, lambda info: (True, info, 0.0)], ids=["tracer", "handler"])
@pytest.mark.parametrize("wrapped", [True, False])
def test_a_lack_of_memory_is_reported_as_another_error(outcome, wrapped):
    request = Reported()
    info = info_of(MemoryError("too much"))
    if not wrapped:
        info.exception = MemoryError("too much")
    request.tell(outcome(info))
    assert len(request.outcomes) + len(request.errors) == 1
    assert isinstance(info.exception, RuntimeError)
    assert str(info.exception) == "MemoryError('too much')"


def test_a_value_that_is_an_exception_info_is_reported_as_a_value():
    request = Reported()
    info = info_of(MemoryError())
    request.tell((False, info, 0.0))
    assert request.outcomes == [(False, info, 0.0)]
    assert isinstance(raised(info), MemoryError)


@pytest.mark.parametrize("outcome", [None, (), (True, None, 0.0), (1, 2, 3, 4)])
def test_what_cannot_be_reported_is_logged_and_nobody_is_harmed(outcome, caplog):
    Reported().tell(outcome)
    assert "Reporting a task's outcome failed" in caplog.text


@pytest.mark.parametrize("callback", [0, 1])
def test_a_request_that_fails_to_take_it_is_logged(callback, caplog):
    def fail(_: Any) -> None:
        raise ValueError("nobody listens")

    outcome = [(False, 3, 0.0), info_of(KeyError("x"))][callback]
    TaskJob(pytest.fail, fail, fail).report(outcome)
    assert "Reporting a task's outcome failed" in caplog.text
    assert "nobody listens" in caplog.text


@pytest.mark.parametrize("outcome", [lambda info: info, lambda info: (True, info, 0.0)], ids=["tracer", "handler"])
@pytest.mark.parametrize("error", [KeyError("x"), MemoryError("too much")])
def test_celerys_request_takes_all_of_them(request_for, outcome, error, caplog):
    request = request_for()
    TaskJob(pytest.fail, request.on_success, request.on_failure).report(outcome(info_of(error)))
    assert request.message.channel.answers == ["acknowledged"]
    assert "outcome failed" not in caplog.text


def test_celerys_request_raises_a_lack_of_memory_again(request_for):
    """Fails when Celery no longer does what `TaskJob.report` is for."""
    request = request_for()
    with pytest.raises(MemoryError):
        request.on_success((True, info_of(MemoryError("too much")), 0.0))
    assert request.message.channel.answers == []
