"""The order in which Redis is asked for what it has, and publishes what is new."""

from contextlib import AsyncExitStack
from typing import Any

import pytest
from celery import Celery

from pico_celery_client import TaskResult
from pico_celery_client.results.redis import RedisListener, _RedisSession
from pico_celery_core.progress import PROGRESS

pytestmark = pytest.mark.filterwarnings("ignore:.*setex.*:DeprecationWarning")


@pytest.fixture
def app(redis_url) -> Any:
    with Celery("tests", broker="memory://", backend=redis_url, set_as_current=False) as app:
        yield app
        app.backend.result_consumer.stop()
        app.backend.client.close()


async def test_what_was_fetched_does_not_follow_what_was_published_meanwhile(app, monkeypatch):
    listener = RedisListener(app)
    monkeypatch.setattr(listener, "_run", _nothing)
    result: TaskResult[str] = TaskResult("an-id", app=app)
    with listener.listening(result) as queue:
        async with AsyncExitStack() as stack:
            session = _RedisSession(listener, stack)
            channel = session._channel(result.id)
            session._subscribed[channel] = result.id
            ask = session._redis.mget

            async def overtaken(channels: Any) -> Any:
                old = await ask(channels)
                session._deliver(channel, stored(2))
                return old

            def stored(step: int) -> bytes:
                app.backend.store_result(result.id, {"current": step}, PROGRESS)
                payload: bytes = app.backend.client.get(channel)
                return payload

            stored(1)
            monkeypatch.setattr(session._redis, "mget", overtaken)
            await session._fetch({channel: result.id})
            assert [queue.get_nowait()["result"]["current"] for _ in range(queue.qsize())] == [2]
            monkeypatch.setattr(session._redis, "mget", ask)
            await session._fetch({channel: result.id})
            assert [queue.get_nowait()["result"]["current"] for _ in range(queue.qsize())] == [2]


async def _nothing() -> None:
    pass
