"""A job is cancelled whenever that is asked for: before, while and after it runs."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from billiard.exceptions import Terminated

from pico_celery_worker.loop import close_host, current_host
from pico_celery_worker.loop.cancellation import Interruption
from pico_celery_worker.pools.job import Jobs


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    yield Jobs()
    close_host()


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
        interruption = Interruption()
        return current_host().run(interruption.guard(self.wait()), interruption)


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
    number, run = jobs.add(body)
    thread, outcome = in_thread(run)
    assert body.began.wait(5)
    jobs.cancel_and_wait(number, 5)
    assert body.seen == ["cleaned up"]
    thread.join(5)
    assert_terminated(outcome[0])


def test_a_job_that_is_cancelled_before_it_begins_does_nothing(jobs):
    body = Body()
    number, run = jobs.add(body)
    jobs.cancel(number)
    assert_terminated(run())
    assert not body.began.is_set()


def test_a_job_that_has_ended_is_left_alone(jobs):
    number, run = jobs.add(lambda: (False, 7, 0.1))
    assert run() == (False, 7, 0.1)
    jobs.cancel(number)
    jobs.cancel_and_wait(number, 5)


def test_all_are_cancelled_at_once(jobs):
    bodies = [Body() for _ in range(3)]
    threads = [in_thread(jobs.add(body)[1]) for body in bodies]
    assert all(body.began.wait(5) for body in bodies)
    jobs.cancel_all(5)
    assert [body.seen for body in bodies] == [["cleaned up"]] * 3
    for thread, outcome in threads:
        thread.join(5)
        assert_terminated(outcome[0])


def test_what_cannot_be_cancelled_is_not_waited_for_without_end(jobs):
    let_go = threading.Event()
    _, run = jobs.add(lambda: let_go.wait(5))
    thread, outcome = in_thread(run)
    jobs.cancel_all(0.01)
    assert outcome == []
    let_go.set()
    thread.join(5)
    assert outcome == [True]


def test_a_cancellation_that_nobody_asked_for_is_passed_on(jobs):
    def cancelled() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        jobs.add(cancelled)[1]()


def test_the_outer_of_two_coroutines_is_cancelled(jobs):
    """As where a handler runs another task by blocking code."""
    body, inner = Body(), Interruption()

    async def at_once() -> int:
        return 7

    async def outer() -> str:
        loop = asyncio.get_running_loop()
        assert await asyncio.to_thread(lambda: current_host().run(inner.guard(at_once()), inner)) == 7
        assert loop is asyncio.get_running_loop()
        return await body.wait()

    def wait() -> Any:
        interruption = Interruption()
        return current_host().run(interruption.guard(outer()), interruption)

    number, run = jobs.add(wait)
    thread, outcome = in_thread(run)
    assert body.began.wait(5)
    jobs.cancel_and_wait(number, 5)
    thread.join(5)
    assert_terminated(outcome[0])
