"""task_scope: components that are made for an execution, in a test that runs no task."""

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from celery.exceptions import MaxRetriesExceededError, Retry
from pico_ioc import ComponentCreationError, cleanup, component

from pico_celery import Progress, TaskContext, task
from pico_celery.testing import task_scope
from tests.unit.worker.applications import application
from tests.unit.worker.containers import bare_container

cleaned: list[str] = []


@component(scope="task")
class Work:
    @cleanup
    async def close(self) -> None:
        cleaned.append("work")


@component(lazy=True)
class Pool:
    async def __ainit__(self) -> None:
        self.is_open = True


@component(scope="prototype")
class Service:
    def __init__(self, context: TaskContext, work: Work) -> None:
        self.context, self.work = context, work

    async def __aclose__(self) -> None:
        cleaned.append("service")


@component(scope="prototype")
class Tasks:
    def __init__(self, context: TaskContext, service: Service, work: Work) -> None:
        self.context, self.service, self.work = context, service, work

    @task("scoped.run")
    async def run(self) -> str:
        await self.context.progress(1, 2, "half")
        await self.context.update_state("NEARLY", {"left": 1})
        return self.context.id


@component(scope="prototype")
class Pooled:
    def __init__(self, pool: Pool, service: Service) -> None:
        self.pool, self.service = pool, service


@pytest.fixture
def container():
    cleaned.clear()
    return application(Work, Pool, Service, Tasks, Pooled)


async def test_a_task_component_is_built_and_its_handler_awaited(container):
    async with task_scope(container, id="7") as scope:
        tasks = await container.aget(Tasks)
        assert tasks.context is tasks.service.context is scope.context
        assert tasks.work is tasks.service.work
        assert await tasks.run() == "7"
        assert scope.progress == [Progress(1, 2, "half")]
        assert scope.states == [("PROGRESS", Progress(1, 2, "half").as_meta()), ("NEARLY", {"left": 1})]
        assert cleaned == []
    assert cleaned == ["work"]


async def test_a_component_is_got_as_a_worker_gets_it(container):
    async with task_scope(container) as scope:
        pooled: Pooled = await scope.get(Pooled)
        assert pooled.pool.is_open
    assert cleaned == ["service", "work"]


async def test_the_context_says_what_is_given(container):
    given: dict[str, Any] = {
        "id": "7",
        "name": "orders.confirm",
        "args": [1],
        "kwargs": {"email": "ada@shop.example"},
        "retries": 2,
        "max_retries": None,
        "headers": {"tenant": "acme"},
        "redelivered": True,
        "parent_id": "6",
        "root_id": "5",
    }
    async with task_scope(container, **given, time_limit=60) as scope:
        assert {name: getattr(scope.context, name) for name in given} == given
        assert timedelta(0) < scope.context.deadline - datetime.now(UTC) <= timedelta(seconds=60)


async def test_without_arguments_it_is_an_execution_as_any_other(container):
    async with task_scope(container) as first, task_scope(application(Work)) as second:
        assert first.context.id != second.context.id
        assert first.context.root_id == first.context.id
        assert (first.context.args, first.context.kwargs, first.context.headers) == ((), {}, {})
        assert (first.context.retries, first.context.max_retries, first.context.redelivered) == (0, 3, False)
        assert (first.context.deadline, first.context.parent_id) == (None, None)


async def test_retry_raises_what_it_raises_in_a_worker(container):
    cause = OSError("no disk")
    async with task_scope(container, retries=2) as scope:
        with pytest.raises(Retry) as retry:
            scope.context.retry(countdown=60, exc=cause)
        assert (retry.value.exc, retry.value.when) == (cause, 60)
    async with task_scope(container, retries=3) as scope:
        with pytest.raises(MaxRetriesExceededError):
            scope.context.retry()
        with pytest.raises(OSError, match="no disk"):
            scope.context.retry(exc=cause)
        with pytest.raises(Retry):
            scope.context.retry(max_retries=4)


async def test_scopes_at_once_do_not_know_each_other(container):
    async def run(number: int) -> tuple[str, list[Progress]]:
        async with task_scope(container, id=str(number)) as scope:
            tasks = await container.aget(Tasks)
            await asyncio.sleep(0)
            return await tasks.run(), scope.progress

    for number, (task_id, progress) in enumerate(await asyncio.gather(*map(run, range(5)))):
        assert (task_id, len(progress)) == (str(number), 1)


async def test_a_double_of_the_context_among_the_overrides():
    double = SimpleNamespace(id="double")
    container = application(Work, Service, overrides={TaskContext: double})
    async with task_scope(container):
        assert (await container.aget(Service)).context is double


async def test_a_container_of_the_components_alone():
    container = bare_container(Work)
    async with task_scope(container):
        assert await container.aget(Work) is await container.aget(Work)


async def test_outside_there_is_none_and_the_error_says_what_to_do(container):
    async with task_scope(container):
        pass
    with pytest.raises(ComponentCreationError, match="No active scope ID found"):
        await container.aget(Tasks)
    hint = r"In a test, open a task_scope of pico_celery\.testing"
    with container.scope("task", "by hand"), pytest.raises(ComponentCreationError, match=hint):
        container.get(TaskContext)
