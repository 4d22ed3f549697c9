"""Singletons that have to be awaited, and record when they are made and closed."""

import asyncio
import os
from typing import Any

from celery import Celery
from pico_ioc import DictSource, cleanup, component, configuration, configure, factory, init, provides

from pico_celery import task
from tests.integration.apps.recording import Records


class Process:
    """What happens in this process, in order."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def add(self, what: str) -> None:
        self._records.add(f"process:{os.getpid()}", what)


@component(lazy=True)
class Database:
    """Made by `__ainit__`, closed by `__aclose__`; keeps an asyncio task of its own."""

    def __init__(self, records: Records) -> None:
        self.process = Process(records)
        self.loop = asyncio.get_running_loop()

    async def __ainit__(self) -> None:
        if os.environ.get("TEST_FAIL"):
            raise ConnectionError("the database is not there")
        self.process.add("database made")
        self.listener = asyncio.create_task(self.listen())
        await asyncio.sleep(0.1)

    async def listen(self) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            self.process.add("listener ended")

    async def query(self) -> int:
        await asyncio.sleep(0)
        assert asyncio.get_running_loop() is self.loop
        assert not self.listener.done()
        return id(self)

    async def __aclose__(self) -> None:
        await asyncio.sleep(0)
        assert asyncio.get_running_loop() is self.loop
        self.process.add("database closed")


@component(lazy=True)
class Cache:
    """Made by an async `@configure`, closed by an async `@cleanup`."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @configure
    async def connect(self) -> None:
        await asyncio.sleep(0.05)
        self.database.process.add("cache made")

    @cleanup
    async def disconnect(self) -> None:
        await asyncio.sleep(0)
        self.database.process.add("cache closed")


class Feed:
    """Made by an async `@provides`."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache

    @cleanup
    async def stop(self) -> None:
        self.cache.database.process.add("feed closed")


@factory
class Feeds:
    @provides(Feed, lazy=True)
    async def feed(self, cache: Cache) -> Feed:
        await asyncio.sleep(0.05)
        cache.database.process.add("feed made")
        return Feed(cache)


@component
class Metrics:
    """An ordinary singleton."""

    def __init__(self, records: Records) -> None:
        self.process = Process(records)

    @cleanup
    def flush(self) -> None:
        self.process.add("metrics closed")


@component(lazy=True)
class Unused:
    """Needed by nobody, so nobody should make it."""

    def __init__(self, records: Records) -> None:
        records.add("unused", "made")

    @cleanup
    def close(self) -> None:
        pass


@component(lazy=True)
class Reports:
    """Lazy, but nothing in it has to be awaited; its clean-up fails."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics

    def use(self) -> None:
        pass

    @cleanup
    def close(self) -> None:
        self.metrics.process.add("reports closed")
        raise RuntimeError("the hook fails")


@component(scope="task")
class Session:
    def __init__(self, database: Database) -> None:
        self.database = database

    async def __aclose__(self) -> None:
        await asyncio.sleep(0.01)
        self.database.process.add("session closed")


@component(scope="prototype")
class QueryTasks:
    def __init__(self, database: Database, feed: Feed, metrics: Metrics) -> None:
        self.database = database
        self.feed = feed
        self.metrics = metrics

    @task("resources.query")
    async def query(self) -> list[Any]:
        assert await self.feed.cache.database.query() == await self.database.query()
        return [os.getpid(), await self.database.query()]


@component(scope="prototype")
class HoldingTasks:
    def __init__(self, session: Session, reports: Reports, records: Records) -> None:
        self.session = session
        self.reports = reports
        self.records = records

    @task("resources.hold")
    async def hold(self, key: str) -> str:
        self.reports.use()
        self.records.add(key, "body")
        await self.records.all_arrived(key)
        await asyncio.sleep(0.2)
        await self.session.database.query()
        self.session.database.process.add("task ended")
        return "finished"


settings = {
    "broker_url": os.environ["TEST_BROKER_URL"],
    "backend_url": os.environ["TEST_BACKEND_URL"],
    "worker_enable_remote_control": False,
}
container = init(
    modules=["pico_celery", "tests.integration.apps.recording", __name__],
    config=configuration(DictSource({"celery": settings})),
)
app = container.get(Celery)
