"""Real async libraries on each kind of event loop, with one pool of connections for all tasks of a process."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from aiohttp import web
from celery import Celery
from celery.result import ResultSet

from tests import services
from tests.integration.pools import POOLS, Pool
from tests.integration.workers import running_worker, sender

pytestmark = pytest.mark.services

CONNECTIONS = 5
COUNTS = {"gevent": 1000, "threads": 300, "eventlet": 100}


@contextmanager
def web_server() -> Iterator[str]:
    """Run a server that answers with the port of who asks, until the block ends: its URL."""

    async def port(request: web.Request) -> web.Response:
        assert request.transport is not None
        return web.json_response(request.transport.get_extra_info("peername")[1])

    async def serve() -> None:
        application = web.Application()
        application.router.add_get("/port", port)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "localhost", 0)
        await site.start()
        started.append((asyncio.get_running_loop(), runner.addresses[0][1]))
        ready.set()
        await stop.wait()
        await runner.cleanup()

    started: list[tuple[asyncio.AbstractEventLoop, int]] = []
    ready, stop = threading.Event(), asyncio.Event()
    thread = threading.Thread(target=asyncio.run, args=[serve()])
    thread.start()
    assert ready.wait(60)
    loop, number = started[0]
    yield f"http://localhost:{number}"
    loop.call_soon_threadsafe(stop.set)
    thread.join(60)


@pytest.fixture(scope="module", params=[pool for pool in POOLS if pool.name in COUNTS], ids=str)
def pool(request: pytest.FixtureRequest) -> Pool:
    """The pools whose loops differ: those of solo and prefork are as that of threads."""
    return request.param


@pytest.fixture(scope="module")
def app(pool: Pool) -> Iterator[Celery]:
    """Who sends to a worker whose tasks use libraries."""
    with (
        services.redis_database() as url,
        services.postgres_database() as dsn,
        web_server() as web_url,
        sender(url, url) as app,
        running_worker("libraries", *options(pool), broker=url, backend=url, TEST_DSN=dsn, TEST_WEB=web_url) as worker,
    ):
        yield app
        assert worker.stop() == 0
        assert "Traceback" not in worker.log
        assert "Warning" not in worker.log.partition("ready.")[2]


def options(pool: Pool) -> tuple[str, ...]:
    """With as many places as there are tasks, where places cost little."""
    return ("-P", "gevent", "-c", "1000") if pool.name == "gevent" else pool.options


@pytest.mark.parametrize("library", ["asyncpg", "redis", "aiohttp", "sqlalchemy"])
def test_all_tasks_share_the_connections_of_one_pool(app: Celery, pool: Pool, library: str) -> None:
    results = ResultSet([app.send_task(f"libraries.{library}") for _ in range(COUNTS[pool.name])], app=app)
    used = set(results.get(timeout=200))
    assert 1 <= len(used) <= CONNECTIONS


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("getaddrinfo", "127.0.0.1"),
        ("subprocess", "through a cat 0"),
        ("to_thread", "slept"),
        ("structured", [0, 1, 2, 3, 4, 5]),
    ],
)
def test_what_asyncio_offers(app: Celery, what: str, value: object) -> None:
    results = ResultSet([app.send_task(f"asyncio.{what}") for _ in range(20)], app=app)
    assert results.get(timeout=200) == [value] * 20
