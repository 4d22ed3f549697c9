"""`celery.current_task` and `task.request` are right wherever an execution's code runs."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import celery._state
import pytest
from celery import current_task
from celery.utils.threads import LocalStack, get_ident
from pico_ioc import component

from pico_celery import run_blocking, task
from pico_celery_worker.loop.current_task import make_coroutine_aware


@pytest.fixture
def tasks(app, container):
    @component(scope="prototype")
    class Tasks:
        @task("ids")
        async def ids(self) -> list[Any]:
            handler = app.tasks["ids"]

            async def child() -> tuple[str, str]:
                await asyncio.sleep(0)
                return current_task.request.id, handler.request.id

            seen = [await child(), *await asyncio.gather(child(), child())]
            seen.append(await asyncio.create_task(child()))
            async with asyncio.TaskGroup() as group:
                grand = group.create_task(child())
            seen.append(grand.result())
            for run in (asyncio.to_thread, run_blocking):
                seen.append(await run(lambda: (current_task.request.id, handler.request.id)))  # noqa: PERF401
            return seen

        @task("name")
        async def name(self) -> str:
            await asyncio.sleep(0)
            return current_task.name

        @task("nest")
        async def nest(self) -> list[str]:
            before = current_task.request.id
            inner = await asyncio.to_thread(lambda: app.tasks["id"].apply(task_id="inner").get())
            return [before, inner, current_task.request.id]

        @task("id")
        async def id(self) -> str:
            await asyncio.sleep(0)
            return current_task.request.id

        @task("sender")
        async def sender(self) -> tuple[str, str]:
            result = await asyncio.to_thread(app.tasks["family"].apply)
            return result.get()

        @task("family", bind=True)
        async def family(self, bound: Any) -> tuple[str, str]:
            return bound.request.root_id, bound.request.parent_id

    container(Tasks)
    return app.tasks


def test_ids_in_gather_child_tasks_and_threads(tasks):
    seen = tasks["ids"].apply(task_id="an-id").get()
    assert len(seen) == 7
    assert {tuple(ids) for ids in seen} == {("an-id", "an-id")}


def test_many_at_once_each_see_their_own(tasks):
    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(lambda n: tasks["ids"].apply(task_id=str(n)).get(), range(100)))
    for number, seen in enumerate(results):
        assert {tuple(ids) for ids in seen} == {(str(number), str(number))}


def test_a_direct_call_is_the_current_task(tasks):
    assert tasks["name"]() == "name"
    assert not current_task


def test_a_task_that_a_handler_runs_in_a_thread_is_the_current_one_there(tasks):
    assert tasks["nest"].apply(task_id="outer").get() == ["outer", "inner", "outer"]


def test_after_a_task_there_is_no_current_task(tasks):
    tasks["ids"].apply()
    assert not current_task
    assert celery._state._task_stack.stack == []


def test_a_sync_tasks_current_task_stays_right(app, tasks):
    @app.task(name="sync", shared=False)
    def sync() -> tuple[str, str]:
        inner = tasks["id"].apply(task_id="inner").get()
        return inner, current_task.request.id

    assert sync.apply(task_id="outer").get() == ("inner", "outer")


def test_celerys_stacks_are_still_found_by_an_ident_that_can_be_replaced():
    """Fails when Celery changes what `make_coroutine_aware` relies on."""
    for kind in (LocalStack, type(celery._state._task_stack)):
        stack = kind()
        stack.push("mine")
        assert stack.__ident_func__() == get_ident()
        other = object()
        stack.__ident_func__ = lambda: other  # noqa: B023
        assert stack.top is None
        stack.push("other's")
        assert stack.top == "other's"
        stack.__ident_func__ = get_ident
        assert stack.top == "mine"


def test_the_stack_of_requests_is_the_tasks_own(app, tasks):
    make_coroutine_aware(tasks["ids"].request_stack)
    assert tasks["ids"].request_stack is not tasks["name"].request_stack
    assert tasks["ids"].request_stack.__ident_func__ is celery._state._task_stack.__ident_func__


def test_what_celery_pushes_is_what_current_task_shows(app):
    @app.task(name="sync", shared=False)
    def sync() -> None: ...

    celery._state.push_current_task(sync)
    try:
        assert current_task._get_current_object().name == "sync"
    finally:
        celery._state.pop_current_task()


def test_another_thread_has_no_current_task(app):
    seen = []
    thread = threading.Thread(target=lambda: seen.append(bool(current_task)))
    thread.start()
    thread.join()
    assert seen == [False]
