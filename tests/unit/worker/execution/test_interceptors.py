"""Interceptors: what an application does around each execution and each sending."""

import asyncio
import contextvars
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from pico_ioc import MethodCtx, MethodInterceptor, PicoContainer, cleanup, component, intercepted_by

from pico_celery import (
    CeleryClient,
    ContextVariableInterceptor,
    OutgoingTask,
    SendInterceptor,
    TaskContext,
    TaskInterceptor,
    celery,
    gather_results,
    send_all,
    send_task,
    signature,
    task,
)
from pico_celery_core.errors import ResolutionError
from pico_celery_worker.testing import TaskRunner
from tests.unit.worker.applications import application

tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant")


class Trail:
    """What has happened, in its order."""

    def __init__(self) -> None:
        self.steps: list[str] = []


@component
class Steps(Trail):
    pass


@component(scope="task")
class Unit:
    """Shared by an execution's interceptors and its handler."""

    def __init__(self, steps: Steps) -> None:
        self.notes: list[str] = []
        self._steps = steps

    @cleanup
    async def close(self) -> None:
        self._steps.steps.append(f"closed with {self.notes}")


@component
class Outer:
    priority = -10

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    async def intercept_task(self, context: TaskContext, call_next: Any) -> Any:
        self._steps.steps.append(f"outer before {context.name}")
        try:
            return f"<{await call_next()}>"
        finally:
            self._steps.steps.append("outer after")


@component(scope="prototype")
class Inner:
    def __init__(self, unit: Unit) -> None:
        self._unit = unit

    async def intercept_task(self, context: TaskContext, call_next: Any) -> Any:
        self._unit.notes.append(f"inner {context.args}")
        return await call_next()


@component(scope="prototype")
class Tasks:
    def __init__(self, unit: Unit, steps: Steps) -> None:
        steps.steps.append("made")
        self._unit = unit

    @task("tasks.run")
    async def run(self, what: str = "") -> str:
        await asyncio.sleep(0)
        self._unit.notes.append("handler")
        errors = {"ignore": Ignore(), "reject": Reject("no"), "value": ValueError("no")}
        if what in errors:
            raise errors[what]
        return tenant.get("nobody's")


def test_they_run_around_the_handler_in_their_order_within_its_scope():
    container = application(Steps, Unit, Inner, Outer, Tasks)
    with TaskRunner(container) as runner:
        assert runner.run(Tasks.run, "x") == "<nobody's>"
    assert container.get(Steps).steps == [
        "outer before tasks.run",
        "made",
        "outer after",
        "closed with [\"inner ['x']\", 'handler']",
    ]


@pytest.mark.parametrize("what", ["ignore", "reject", "value"])
def test_what_a_handler_raises_passes_through_them(what):
    def outcome(container: PicoContainer) -> tuple[str, str]:
        with TaskRunner(container) as runner:
            result = runner.app.send_task("tasks.run", [what])
            runner.join()
            return result.state, repr(result.result)

    intercepted = application(Steps, Unit, Outer, Tasks)
    assert outcome(intercepted) == outcome(application(Steps, Unit, Tasks))
    assert "outer after" in intercepted.get(Steps).steps


@component(scope="prototype")
class Waiting:
    @task("tasks.wait", soft_time_limit=0.01)
    async def wait(self) -> None:
        await asyncio.Event().wait()


def test_a_soft_limit_strikes_where_the_handler_waits_and_may_be_caught_around_it():
    @component
    class Catching:
        async def intercept_task(self, context: TaskContext, call_next: Any) -> Any:
            try:
                return await call_next()
            except SoftTimeLimitExceeded:
                return "in time"

    with TaskRunner(application(Catching, Waiting)) as runner:
        assert runner.run(Waiting.wait) == "in time"


def test_one_that_does_not_call_the_handler_makes_no_component():
    @component
    class Closed:
        async def intercept_task(self, context: TaskContext, call_next: Any) -> Any:
            return "closed"

    container = application(Steps, Unit, Closed, Tasks)
    with TaskRunner(container) as runner:
        assert runner.run(Tasks.run) == "closed"
    assert container.get(Steps).steps == []


def test_one_that_cannot_be_made_fails_the_task_and_says_so():
    @component(scope="prototype")
    class Broken:
        def __init__(self) -> None:
            raise ValueError("no licence")

        async def intercept_task(self, context: TaskContext, call_next: Any) -> Any: ...

    with TaskRunner(application(Steps, Unit, Broken, Tasks)) as runner, pytest.raises(ResolutionError, match="Broken"):
        runner.run(Tasks.run)


def test_where_there_is_none_nothing_is_asked():
    with TaskRunner(application(Steps, Unit, Tasks)) as runner:
        assert [executor.interceptors for executor in runner._runtime.executors] == [None]
        assert runner.run(Tasks.run) == "nobody's"


def test_the_protocols_know_them_by_their_methods():
    assert issubclass(Outer, TaskInterceptor)
    assert not issubclass(Outer, SendInterceptor)
    assert issubclass(Tenant, TaskInterceptor)
    assert issubclass(Tenant, SendInterceptor)


# A context variable


@component
class Tenant(ContextVariableInterceptor):
    def __init__(self) -> None:
        super().__init__(tenant, "x-tenant")


@celery
class Client(CeleryClient):
    @send_task("tasks.run", headers={"x-own": 1})
    async def run(self, what: str = "") -> str: ...

    @send_task("tasks.run")
    def run_here(self, what: str = "") -> str: ...

    @send_task("tasks.forward")
    async def forward(self) -> str: ...


@component(scope="prototype")
class Forwarding:
    def __init__(self, client: Client) -> None:
        self._client = client

    @task("tasks.forward")
    async def forward(self) -> str:
        return await (await self._client.run())


async def test_a_context_variable_goes_with_a_task_and_with_those_that_it_sends():
    container = application(Steps, Unit, Tenant, Tasks, Client, Forwarding)
    client = container.get(Client)
    async with TaskRunner(container):
        assert await (await client.run()) == "nobody's"
        token = tenant.set("ada's")
        assert await (await client.run()) == "ada's"
        assert await (await client.forward()) == "ada's"
        assert await asyncio.to_thread(lambda: client.run_here().get(timeout=60)) == "ada's"
        tenant.reset(token)
        assert await (await client.run()) == "nobody's"


async def test_a_thousand_at_once_are_kept_apart():
    container = application(Steps, Unit, Tenant, Tasks, Client, Forwarding)
    client = container.get(Client)

    async def as_tenant(number: int) -> str:
        tenant.set(f"tenant {number}")
        return await (await client.run()).wait(timeout=200)

    async with TaskRunner(container, timeout=200):
        told = await asyncio.gather(*(asyncio.create_task(as_tenant(number)) for number in range(1000)))
    assert told == [f"tenant {number}" for number in range(1000)]


# Around sending


async def test_send_interceptors_run_around_each_sending_and_change_it_alone():
    seen: list[Any] = []

    @component
    class Marking:
        @contextmanager
        def intercept_send(self, task: OutgoingTask) -> Generator[None]:
            seen.append((task.name, task.args, task.headers))
            task.headers["x-mark"] = len(seen)
            task.options["priority"] = 3
            try:
                yield
            finally:
                seen.append("sent")

    @component
    class Reading:
        async def intercept_task(self, context: TaskContext, call_next: Any) -> Any:
            await call_next()
            return str({name: value for name, value in context.headers.items() if name.startswith("x-")})

    container = application(Marking, Reading, Steps, Unit, Tasks, Client)
    client = container.get(Client)
    async with TaskRunner(container):
        assert await (await client.run("a")) == "{'x-own': 1, 'x-mark': 1}"
        assert await (await client.run("b")) == "{'x-own': 1, 'x-mark': 3}"
        assert await asyncio.to_thread(lambda: client.run_here("c").get(timeout=60)) == "{'x-mark': 5}"
        first, second = await send_all([signature(client.run, what) for what in "de"])
        assert await gather_results(first, second) == [f"{{'x-own': 1, 'x-mark': {mark}}}" for mark in (7, 8)]
    assert [step if isinstance(step, str) else step[:2] for step in seen] == [
        *(("tasks.run", ("a",)), "sent"),
        *(("tasks.run", ("b",)), "sent"),
        *(("tasks.run", ("c",)), "sent"),
        *(("tasks.run", ("d",)), ("tasks.run", ("e",)), "sent", "sent"),
    ]


async def test_what_a_send_interceptor_raises_is_the_callers_and_nothing_is_sent():
    @component
    class Refusing:
        def intercept_send(self, task: OutgoingTask) -> Any:
            raise PermissionError(task.name)

    container = application(Refusing, Steps, Unit, Tasks, Client)
    client = container.get(Client)
    async with TaskRunner(container):
        with pytest.raises(PermissionError, match=r"tasks\.run"):
            await client.run()
        with pytest.raises(PermissionError, match=r"tasks\.run"):
            client.run_here()
    assert container.get(Steps).steps == []


# pico-ioc's own


@component
class Counting(MethodInterceptor):
    def __init__(self) -> None:
        self.calls: list[str] = []

    def invoke(self, ctx: MethodCtx, call_next: Any) -> Any:
        self.calls.append(f"{ctx.name} {ctx.args[0]}")
        return call_next(ctx)


@component(scope="prototype")
class Prices:
    @intercepted_by(Counting)
    async def of(self, number: int) -> int:
        await asyncio.sleep(0)
        return number * 10


@component(scope="prototype")
class Selling:
    def __init__(self, prices: Prices) -> None:
        self._prices = prices

    @intercepted_by(Counting)
    @task("tasks.sell")
    async def sell(self, number: int) -> int:
        return await self._prices.of(number) + 1


def test_pico_iocs_interceptors_work_on_handlers_and_on_what_they_use_a_thousand_at_once():
    container = application(Counting, Prices, Selling)
    numbers = range(1000)
    with TaskRunner(container, timeout=200) as runner:
        results = [runner.app.send_task("tasks.sell", [number]) for number in numbers]
        assert [result.get(timeout=200) for result in results] == [number * 10 + 1 for number in numbers]
    calls = sorted(container.get(Counting).calls)
    assert calls == sorted(f"{name} {number}" for name in ("of", "sell") for number in numbers)
