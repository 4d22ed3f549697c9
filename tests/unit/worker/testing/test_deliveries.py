"""A second delivery is made as a broker makes it, and what it changes is told."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from pico_ioc import PicoContainer, component

from pico_celery import TaskContext, task
from pico_celery.testing import TaskRunner
from tests.unit.worker.applications import application


class Log(list[Any]):
    """What has happened."""


@component(scope="prototype")
class Tasks:
    def __init__(self, log: Log, context: TaskContext) -> None:
        self.log = log
        self.context = context

    @task("steps", acks_late=True)
    async def steps(self, *, stubborn: bool = False) -> str:
        self.log.append(("begun", self.context.id, self.context.redelivered))
        try:
            await asyncio.sleep(0)
            self.log.append("first")
            await asyncio.sleep(0)
            self.log.append("second")
        except asyncio.CancelledError:
            self.log.append("cancelled")
            if not stubborn:
                raise
        return "done"

    @task("again", max_retries=1)
    async def again(self) -> int:
        await asyncio.sleep(0)
        if self.context.retries == 0:
            self.log.append("retried")
            self.context.retry()
        return self.context.retries

    @task("fails")
    async def fails(self) -> None:
        self.log.append("failed")
        raise ValueError("no")


def run(handler: Callable[..., Any], *, returned: bool = True, **options: Any) -> tuple[Log, TaskRunner]:
    """Run a handler, and return what has happened then."""
    log = Log()
    with TaskRunner(application(Tasks, overrides={Log: lambda: log}), timeout=60, **options) as runner:
        if returned:
            assert runner.run(handler) in ("done", 1)
        else:
            with pytest.raises(ValueError, match="no"):
                runner.run(handler)
    return log, runner


def test_each_message_is_delivered_twice_with_one_id():
    log, runner = run(Tasks.steps, deliveries="twice")
    assert [entry if isinstance(entry, str) else (entry[0], entry[2]) for entry in log] == [
        *(("begun", False), "first", "second"),
        *(("begun", True), "first", "second"),
    ]
    assert log[0][1] == log[3][1]
    assert runner.interrupted == ()


@pytest.mark.parametrize(
    ("number", "first"), [(1, ["cancelled"]), (2, ["first", "cancelled"]), (3, ["first", "second"])]
)
def test_the_first_is_cancelled_where_it_waits(number: int, first: list[str]):
    log, runner = run(Tasks.steps, deliveries="twice", interrupt_at=number)
    assert [entry for entry in log if isinstance(entry, str)] == [*first, "first", "second"]
    places = [place.partition(" line ")[0] for place in runner.interrupted]
    assert places == ["steps, test_deliveries.py"] * (number < 3)


def test_one_that_fails_is_delivered_again_too():
    log, _ = run(Tasks.fails, deliveries="twice", returned=False)
    assert log == ["failed"] * 2


def test_retries_are_messages_of_their_own():
    log, _ = run(Tasks.again, deliveries="twice")
    assert log == ["retried"] * 2


@pytest.mark.parametrize("options", [{"deliveries": "thrice"}, {"interrupt_at": 1}])
def test_what_makes_no_sense_is_refused(options: dict[str, Any]):
    with pytest.raises(ValueError, match="deliveries"):
        TaskRunner(application(Tasks, overrides={Log: Log}), **options)


Run = Callable[[PicoContainer], TaskRunner]


def counting(repeatable: bool) -> Callable[[Run], int]:
    """Return a scenario with two waits, in which a count goes up after the first."""

    def scenario(start: Run) -> int:
        counts: list[int] = []

        @component(scope="prototype")
        class Counting:
            @task("count")
            async def count(self) -> None:
                await asyncio.sleep(0)
                if not (repeatable and counts):
                    counts.append(1)
                await asyncio.sleep(0)

        with start(application(Counting)) as runner:
            runner.run(Counting.count)
        return len(counts)

    return scenario


def test_tasks_that_bear_it(assert_redeliverable: Callable[..., None]):
    assert_redeliverable(counting(repeatable=True))


def test_tasks_that_do_not_are_told_with_the_place(assert_redeliverable: Callable[..., None]):
    with pytest.raises(AssertionError) as failure:
        assert_redeliverable(counting(repeatable=False))
    first, once, twice, second = str(failure.value).splitlines()
    assert first == "These tasks do not bear a second delivery."
    assert once == "  each message delivered once: 1"
    assert twice == "  each message delivered twice: 2"
    # At the first wait nothing had been counted yet.
    assert second.startswith("  cancelled at wait 2 (count, test_deliveries.py line ")
    assert second.endswith("), and delivered again: 2")
