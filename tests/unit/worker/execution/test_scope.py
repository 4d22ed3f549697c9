"""An execution's scope: what was made for it is cleaned up when it ends, however it ends."""

import asyncio
import gc
import inspect
import logging
from typing import Any

import pytest
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded
from pico_ioc import PicoContainer, cleanup, component, configure

from pico_celery import task
from pico_celery_core._pico_ioc import TASK_SCOPE
from pico_celery_core.errors import HandlerExitError, ResolutionError
from pico_celery_worker.execution.execution import Execution
from pico_celery_worker.execution.scope import TaskScope
from pico_celery_worker.loop import child_tasks as leftovers
from tests.unit.worker.containers import bare_container, plan_for


@component
class Journal:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.waiting = asyncio.Event()


@component(scope="prototype")
class Connection:
    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        journal.lines.append("connection")

    async def __aclose__(self) -> None:
        await asyncio.sleep(0)
        self.journal.lines.append("connection closed")


@component(scope="task")
class UnitOfWork:
    def __init__(self, journal: Journal, connection: Connection) -> None:
        self.journal, self.connection = journal, connection
        journal.lines.append("unit")

    @cleanup
    def end(self) -> None:
        self.journal.lines.append("unit ended")


@component(scope="task")
class Late:
    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        journal.lines.append("late")

    @cleanup
    async def end(self) -> None:
        self.journal.lines.append("late ended")


@component(scope="prototype")
class Tasks:
    def __init__(self, journal: Journal, unit: UnitOfWork, container: PicoContainer) -> None:
        self.journal, self.unit, self.container = journal, unit, container
        journal.lines.append("tasks")

    @cleanup
    async def end(self) -> None:
        await asyncio.sleep(0)
        self.journal.lines.append("tasks ended")

    @task("scope.run", max_retries=0)
    async def run(self, how: str) -> str:
        assert self.container.get(UnitOfWork) is self.unit
        assert await self.container.aget(Late) is self.container.get(Late)
        match how:
            case "value":
                return "done"
            case "error":
                raise ValueError(how)
            case "retry":
                raise Retry
            case "reject":
                raise Reject(how)
            case "ignore":
                raise Ignore
            case "exit":
                raise SystemExit(3)
        self.journal.lines.append("waiting")
        self.journal.waiting.set()
        await asyncio.Event().wait()
        return "never"

    @task("scope.limited", soft_time_limit=0.01)
    async def limited(self) -> None:
        await self.run("wait")


MADE = ["connection", "unit", "tasks", "late"]
CLEANED = ["late ended", "tasks ended", "unit ended", "connection closed"]


@pytest.fixture
def run(app, container):
    made = container(Journal, Connection, UnitOfWork, Late, Tasks)

    def start(name: str, *args: Any) -> Any:
        handler = app.tasks[name]
        return Execution(handler.executor, handler, args, {})

    start.journal = made.get(Journal)
    start.container = made
    return start


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("value", None),
        ("error", ValueError),
        ("retry", Retry),
        ("reject", Reject),
        ("ignore", Ignore),
        ("exit", HandlerExitError),
    ],
)
async def test_each_hook_runs_once_in_reverse_order_however_the_handler_ends(run, how, error):
    execution = run("scope.run", how)
    if error is None:
        assert await execution.run() == "done"
    else:
        with pytest.raises(error):
            await execution.run()
    assert run.journal.lines == MADE + CLEANED
    assert not run.container._caches._by_scope[TASK_SCOPE]


async def test_each_hook_runs_once_after_a_soft_time_limit(run):
    with pytest.raises(SoftTimeLimitExceeded):
        await run("scope.limited").run()
    assert run.journal.lines == [*MADE, "waiting", *CLEANED]


@pytest.mark.parametrize("by", ["cancel_scope", "asyncio"])
async def test_each_hook_runs_once_after_a_cancellation(run, by):
    execution = run("scope.run", "wait")
    running = asyncio.create_task(execution.run())
    await run.journal.waiting.wait()
    if by == "asyncio":
        running.cancel()
    else:
        execution.cancel_scope.cancel()
    with pytest.raises((asyncio.CancelledError, RuntimeError)):
        await running
    assert run.journal.lines == [*MADE, "waiting", *CLEANED]


async def test_what_was_made_is_cleaned_up_when_resolution_fails_half_way(app, container):
    @component(scope="prototype")
    class Half:
        def __init__(self, unit: UnitOfWork) -> None: ...

        @configure
        async def fail(self) -> None:
            raise ConnectionError("refused")

        @task("scope.half")
        async def run(self) -> None: ...

    journal = container(Journal, Connection, UnitOfWork, Half).get(Journal)
    handler = app.tasks["scope.half"]
    with pytest.raises(ResolutionError, match="ConnectionError: refused, while initializing Half with fail"):
        await Execution(handler.executor, handler, (), {}).run()
    assert journal.lines == ["connection", "unit", "unit ended", "connection closed"]


def hooked(*hooks: Any) -> list[type]:
    """Components made one after the other, each with one hook, and a root that needs them all."""
    parts = [
        component(scope="prototype")(type(f"Part{number}", (), {"end": cleanup(hook)}))
        for number, hook in enumerate(hooks)
    ]

    def create(self: Any, **_: Any) -> None: ...

    parameters = [
        inspect.Parameter(f"part{number}", inspect.Parameter.KEYWORD_ONLY, annotation=part)
        for number, part in enumerate(parts)
    ]
    this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    vars(create)["__signature__"] = inspect.Signature([this, *parameters])
    return [*parts, component(scope="prototype")(type("Root", (), {"__init__": create}))]


async def ended(*hooks: Any, timeout: float = 5) -> None:
    components = hooked(*hooks)
    container = bare_container(*components)
    async with TaskScope(container, "scope.run[an-id]", timeout) as scope:
        await plan_for(container, components[-1]).resolve(scope)


class Stop(BaseException):
    pass


async def test_a_hook_that_fails_is_logged_with_task_and_id_and_stops_no_other(caplog):
    calls = []

    def sync(self: Any) -> None:
        calls.append("sync")
        raise ValueError("sync went wrong")

    async def async_(self: Any) -> None:
        calls.append("async")
        raise ValueError("async went wrong")

    async def cancelled(self: Any) -> None:
        calls.append("cancelled")
        raise asyncio.CancelledError

    def asks_a_cancelled_task(self: Any) -> None:
        calls.append("asks")
        raise asyncio.CancelledError

    await ended(sync, async_, cancelled, asks_a_cancelled_task, lambda self: calls.append("last"))
    assert calls == ["last", "asks", "cancelled", "async", "sync"]
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert messages == [
        "Clean-up Part3.end of scope.run[an-id] failed",
        "Clean-up Part2.end of scope.run[an-id] failed",
        "Clean-up Part1.end of scope.run[an-id] failed",
        "Clean-up Part0.end of scope.run[an-id] failed",
    ]
    assert "ValueError: async went wrong" in caplog.text


async def test_a_hook_that_fails_hides_no_failure_of_the_handler(caplog):
    def fail(self: Any) -> None:
        raise ValueError("hook")

    components = hooked(fail)
    container = bare_container(*components)

    async def run() -> None:
        async with TaskScope(container, "t", 5) as scope:
            await plan_for(container, components[-1]).resolve(scope)
            raise KeyError("handler")

    with pytest.raises(KeyError, match="handler"):
        await run()
    assert "Part0.end of t failed" in caplog.text


async def test_an_exit_that_a_hook_asks_for_waits_for_the_other_hooks():
    calls = []

    def stop(self: Any) -> None:
        raise Stop

    with pytest.raises(Stop):
        await ended(lambda self: calls.append("last"), stop)
    assert calls == ["last"]


@pytest.mark.parametrize("is_stubborn", [False, True])
async def test_a_hook_that_hangs_is_cut_off_even_if_it_swallows_that(caplog, is_stubborn):
    calls = []

    async def hang(self: Any) -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                calls.append("cancelled")
                if not is_stubborn:
                    raise

    await asyncio.wait_for(ended(lambda self: calls.append("last"), hang, timeout=0.01), 60)
    assert calls == ["cancelled", "last"]
    assert "Clean-up Part1.end of scope.run[an-id] was cut off after 0.01 s" in caplog.text


async def test_a_cancellation_during_clean_up_cuts_short_one_hook_and_the_others_run():
    calls = []
    waiting = asyncio.Event()

    async def wait(self: Any) -> None:
        waiting.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(ended(lambda self: calls.append("last"), wait))
    await waiting.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert calls == ["last"]


async def test_cleanup_methods_get_their_dependencies_those_of_the_execution_too():
    @component(scope="task")
    class Report:
        def __init__(self, journal: Journal) -> None:
            self.journal = journal

        @cleanup
        async def send(self) -> None:
            self.journal.lines.append("report sent")

    @component(scope="prototype")
    class Root:
        def __init__(self, unit: UnitOfWork) -> None:
            self.unit = unit

        @cleanup
        async def end(self, journal: Journal, unit: UnitOfWork, report: Report) -> None:
            assert unit is self.unit
            journal.lines.append("root ended")

    container = bare_container(Journal, Connection, UnitOfWork, Report, Root)
    async with TaskScope(container, "t", 5) as scope:
        await plan_for(container, Root).resolve(scope)
    lines = container.get(Journal).lines
    assert lines == ["connection", "unit", "root ended", "unit ended", "connection closed", "report sent"]
    assert not container._caches._by_scope[TASK_SCOPE]


async def test_all_hooks_of_one_instance_run_and_an_aclose_that_is_marked_runs_once():
    calls = []

    @component(scope="prototype")
    class Root:
        @cleanup
        def b(self) -> None:
            calls.append("b")

        @cleanup
        async def a(self) -> None:
            calls.append("a")

        @cleanup
        async def __aclose__(self, journal: Journal) -> None:
            calls.append("aclose")

    container = bare_container(Journal, Root)
    async with TaskScope(container, "t", 5) as scope:
        await plan_for(container, Root).resolve(scope)
    assert sorted(calls) == ["a", "aclose", "b"]


async def test_what_the_handler_left_running_ends_before_what_it_used(caplog):
    order = []
    components = hooked(lambda self: order.append("closed"))
    container = bare_container(*components)
    loop = asyncio.get_running_loop()
    loop.set_task_factory(leftovers.task_factory)

    async def forgotten() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            order.append("cancelled")

    async with TaskScope(container, "t", 5) as scope:
        await plan_for(container, components[-1]).resolve(scope)
        left = loop.create_task(forgotten())
        await asyncio.sleep(0)
    assert left.cancelled()
    assert order == ["cancelled", "closed"]


async def test_executions_at_the_same_time_have_scopes_of_their_own(run):
    first, second = run("scope.run", "value"), run("scope.run", "value")
    await asyncio.gather(first.run(), second.run())
    assert sorted(run.journal.lines) == sorted((MADE + CLEANED) * 2)


async def test_nothing_is_left_of_20000_executions():
    @component(scope="prototype")
    class Root:
        def __init__(self, unit: UnitOfWork) -> None: ...

    container = bare_container(Journal, Connection, UnitOfWork, Root)
    container.get(Journal).lines = type("Nothing", (), {"append": lambda *_: None})()
    plan = plan_for(container, Root)

    async def executions(count: int) -> int:
        for _ in range(count):
            async with TaskScope(container, "t", 5) as scope:
                await plan.resolve(scope)
        gc.collect()
        return len(gc.get_objects())

    before = await executions(1000)
    assert abs(await executions(19_000) - before) < 500
    assert not container._caches._by_scope[TASK_SCOPE]
