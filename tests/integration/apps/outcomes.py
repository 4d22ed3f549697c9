"""Tasks about values, errors and identity."""

import asyncio
import os
import threading
from typing import Any

import redis
from celery import current_task
from pico_ioc import PicoContainer, component

from pico_celery import TaskContext, run_blocking, task
from tests.integration.apps.failing import FAILURES
from tests.integration.apps.recording import Records


@component(scope="prototype")
class OutcomeTasks:
    def __init__(self, records: Records, context: TaskContext, container: PicoContainer) -> None:
        self.records = records
        self.context = context
        self.container = container
        self.calls = 0

    @task("outcomes.echo")
    async def echo(self, *args: Any, **kwargs: Any) -> list[Any]:
        return [list(args), kwargs]

    @task("outcomes.fail")
    async def fail(self, message: str) -> None:
        await asyncio.sleep(0)
        raise ValueError(message)

    @task("outcomes.fail_with")
    async def fail_with(self, kind: str) -> None:
        await asyncio.sleep(0)
        error = FAILURES[kind]()
        raise error

    @task("outcomes.exit")
    async def exit(self) -> None:
        raise SystemExit(3)

    @task("outcomes.cancel_itself")
    async def cancel_itself(self) -> None:
        raise asyncio.CancelledError

    @task("outcomes.unserializable")
    async def unserializable(self) -> object:
        return object()

    @task("outcomes.meet")
    async def meet(self, key: str, count: int) -> int:
        """Wait until so many executions wait here: they can only if they run at once."""
        self.records.arrive(key)
        await self.records.all_arrived(key, count)
        return count

    @task("outcomes.count_calls")
    async def count_calls(self) -> int:
        self.calls += 1
        await asyncio.sleep(0.01)
        return self.calls

    @task("outcomes.ids")
    async def ids(self) -> list[str]:
        """The ids that Celery and the context show, wherever the coroutine and what it starts may run."""

        async def child() -> str:
            await asyncio.sleep(0.01)
            return str(current_task.request.id)

        before = current_task.request.id
        await asyncio.sleep(0.05)
        children = await asyncio.gather(child(), asyncio.create_task(child()))
        threaded = await asyncio.to_thread(lambda: current_task.request.id)
        blocking = await run_blocking(lambda: current_task.request.id)
        return [before, current_task.request.id, *children, threaded, blocking, self.context.id]

    @task("outcomes.where")
    async def where(self) -> list[int]:
        """The process, the thread and the loop."""
        return [os.getpid(), threading.get_native_id(), id(asyncio.get_running_loop())]

    @task("outcomes.call_blocking_library")
    async def call_blocking_library(self, times: int) -> None:
        """Call a library that waits on sockets, right in the coroutine, as should not be done but is."""
        for _ in range(times):
            self.records.arrive("blocking")
            await asyncio.sleep(0)

    @task("outcomes.meet_blocking")
    async def meet_blocking(self, key: str) -> str:
        """Wait in Redis, in a blocking client, until someone pushes."""
        return await run_blocking(self._pop, key)

    def _pop(self, key: str) -> str:
        with redis.Redis.from_url(os.environ["TEST_BACKEND_URL"], decode_responses=True) as client:
            client.incr(f"arrivals:{key}")
            return client.blpop([key], timeout=15)[1]

    @task("outcomes.synchronously")
    async def synchronously(self) -> str:
        """Call another task as a function, from the loop, which cannot wait for itself."""
        return current_task.app.tasks["outcomes.echo"](1)

    @task("outcomes.await_run")
    async def await_run(self) -> Any:
        """Call another task's coroutine function."""
        return await current_task.app.tasks["outcomes.echo"].run(1)
