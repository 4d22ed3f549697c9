"""Tasks that end in every way there is, on components that record their clean-up."""

import asyncio
from typing import Any, NoReturn

from celery.exceptions import Ignore, Reject
from pico_ioc import cleanup, component

from pico_celery import TaskContext, task
from tests.integration.apps.recording import Records


@component(scope="task")
class UnitOfWork:
    def __init__(self, records: Records, context: TaskContext) -> None:
        self.records = records
        self.context = context

    async def __aclose__(self) -> None:
        await asyncio.sleep(0)
        self.records.add(self.context.id, "unit of work")


@component(scope="prototype")
class Ledger:
    def __init__(self, unit: UnitOfWork) -> None:
        self.unit = unit

    @cleanup
    def close(self) -> None:
        self.unit.records.add(self.unit.context.id, "ledger")


@component(scope="prototype")
class Draft:
    def __init__(self, unit: UnitOfWork) -> None:
        self.unit = unit

    @cleanup
    async def discard(self) -> None:
        await asyncio.sleep(0)
        self.unit.records.add(self.unit.context.id, "draft")


@component(scope="prototype")
class CleanupTasks:
    def __init__(self, unit: UnitOfWork, ledger: Ledger, draft: Draft, context: TaskContext) -> None:
        self.unit = unit
        self.ledger = ledger
        self.draft = draft
        self.context = context

    def add(self, what: str) -> None:
        self.unit.records.add(self.context.id, what)

    @cleanup
    def end(self) -> None:
        self.add("task component")

    @task("cleanups.succeed")
    async def succeed(self) -> bool:
        self.add("body")
        return self.ledger.unit is self.draft.unit is self.unit

    @task("cleanups.fail")
    async def fail(self) -> NoReturn:
        self.add("body")
        raise ValueError("on purpose")

    @task("cleanups.retry", max_retries=2)
    async def retry(self) -> int:
        self.add("body")
        if self.context.retries < 2:
            self.context.retry(countdown=0)
        return self.context.retries

    @task("cleanups.autoretry", autoretry_for=(ConnectionError,), max_retries=1, default_retry_delay=0)
    async def autoretry(self) -> NoReturn:
        self.add("body")
        raise ConnectionError("again")

    @task("cleanups.backoff", autoretry_for=(ConnectionError,), retry_backoff=1, retry_jitter=False)
    async def backoff(self) -> int:
        self.add("body")
        if not self.context.retries:
            raise ConnectionError("again")
        return self.context.retries

    @task("cleanups.bound", bind=True, max_retries=1)
    async def bound(self, bound_task: Any) -> int:
        self.add("body")
        if not bound_task.request.retries:
            raise bound_task.retry(countdown=0, exc=ValueError("again"))
        return bound_task.request.retries

    @task("cleanups.exhaust", max_retries=0)
    async def exhaust(self) -> NoReturn:
        self.add("body")
        self.context.retry(countdown=0)

    @task("cleanups.reject", acks_late=True)
    async def reject(self) -> NoReturn:
        self.add("body")
        raise Reject("no good", requeue=False)

    @task("cleanups.ignore")
    async def ignore(self) -> NoReturn:
        self.add("body")
        raise Ignore

    @task("cleanups.sleep")
    async def sleep(self, seconds: float = 30) -> str:
        """Wait to be interrupted, and not be bothered by a soft time limit."""
        self.add("body")
        try:
            await asyncio.sleep(seconds)
        except Exception as error:
            self.add(type(error).__name__)
            await asyncio.sleep(0.01)
            raise
        finally:
            await asyncio.sleep(0.01)
            self.add("finally")
        return "slept"


@component(scope="prototype")
class Faulty:
    def __init__(self, records: Records, context: TaskContext) -> None:
        self.records = records
        self.context = context

    @cleanup
    async def fail(self) -> NoReturn:
        self.records.add(self.context.id, "faulty")
        raise RuntimeError("the hook fails")


@component(scope="prototype")
class Hanging:
    def __init__(self, records: Records, context: TaskContext) -> None:
        self.records = records
        self.context = context

    @cleanup
    async def hang(self) -> None:
        self.records.add(self.context.id, "hanging")
        await asyncio.sleep(60)


@component(scope="prototype")
class BadCleanupTasks:
    def __init__(self, unit: UnitOfWork, faulty: Faulty, hanging: Hanging) -> None:
        pass

    @task("cleanups.bad_hooks")
    async def bad_hooks(self) -> str:
        return "unharmed"
