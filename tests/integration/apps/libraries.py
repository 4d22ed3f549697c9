"""Real async libraries in tasks, each as one singleton that all executions of a process share."""

import asyncio
import os
import time

import aiohttp
import asyncpg
import redis.asyncio
from celery import Celery
from pico_ioc import DictSource, component, configuration, init
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from pico_celery import task

CONNECTIONS = 5


@component(lazy=True)
class Postgres:
    async def __ainit__(self) -> None:
        self.pool = await asyncpg.create_pool(os.environ["TEST_DSN"], min_size=1, max_size=CONNECTIONS)

    async def __aclose__(self) -> None:
        await self.pool.close()


@component
class Redis:
    def __init__(self) -> None:
        url = os.environ["TEST_BACKEND_URL"]
        pool = redis.asyncio.BlockingConnectionPool.from_url(url, max_connections=CONNECTIONS, timeout=60)
        self.client = redis.asyncio.Redis(connection_pool=pool)

    async def __aclose__(self) -> None:
        await self.client.connection_pool.aclose()


@component(lazy=True)
class Web:
    async def __ainit__(self) -> None:
        connector = aiohttp.TCPConnector(limit=CONNECTIONS)
        self.session = aiohttp.ClientSession(os.environ["TEST_WEB"], connector=connector)

    async def __aclose__(self) -> None:
        await self.session.close()


@component
class Engine:
    def __init__(self) -> None:
        dsn = os.environ["TEST_DSN"].replace("postgresql:", "postgresql+asyncpg:")
        self.engine = create_async_engine(dsn, pool_size=CONNECTIONS, max_overflow=0, pool_timeout=60)

    async def __aclose__(self) -> None:
        await self.engine.dispose()


@component(scope="prototype")
class LibraryTasks:
    """Each task returns which of the library's connections served it."""

    def __init__(self, postgres: Postgres, client: Redis, web: Web, engine: Engine) -> None:
        self.postgres = postgres
        self.redis = client.client
        self.web = web
        self.engine = engine.engine

    @task("libraries.asyncpg")
    async def asyncpg(self) -> int:
        async with self.postgres.pool.acquire() as connection, connection.transaction():
            return await connection.fetchval("SELECT pg_backend_pid()")

    @task("libraries.redis")
    async def redis_asyncio(self) -> int:
        return await self.redis.client_id()

    @task("libraries.aiohttp")
    async def aiohttp(self) -> int:
        async with self.web.session.get("/port") as response:
            return await response.json()

    @task("libraries.sqlalchemy")
    async def sqlalchemy(self) -> int:
        async with self.engine.begin() as connection:
            return (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()


@component(scope="prototype")
class AsyncioTasks:
    """What asyncio itself has to offer."""

    @task("asyncio.getaddrinfo")
    async def getaddrinfo(self) -> str:
        addresses = await asyncio.get_running_loop().getaddrinfo("localhost", 80)
        return max(address[4][0] for address in addresses)

    @task("asyncio.subprocess")
    async def subprocess(self) -> str:
        process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        out, _ = await process.communicate(b"through a cat")
        return f"{out.decode()} {process.returncode}"

    @task("asyncio.to_thread")
    async def to_thread(self) -> str:
        await asyncio.to_thread(time.sleep, 0.01)
        return "slept"

    @task("asyncio.structured")
    async def structured(self) -> list[int]:
        """Task groups, timeouts, locks and queues."""
        queue: asyncio.Queue[int] = asyncio.Queue(1)
        limit = asyncio.Semaphore(2)

        async def put(number: int) -> None:
            async with limit:
                await queue.put(number)

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for number in range(5):
                group.create_task(put(number))
            numbers = sorted([await queue.get() for _ in range(5)])
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(10)
        except TimeoutError:
            numbers.append(5)
        return numbers


settings = {
    "broker_url": os.environ["TEST_BROKER_URL"],
    "backend_url": os.environ["TEST_BACKEND_URL"],
    "worker_enable_remote_control": False,
}
container = init(modules=["pico_celery", __name__], config=configuration(DictSource({"celery": settings})))
app = container.get(Celery)
