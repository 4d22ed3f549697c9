"""Handlers, Django, asgiref and plain tasks with loops of their own, all at once in one worker's thread."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from celery.result import AsyncResult

from tests import services
from tests.integration.workers import running_worker, sender

pytestmark = pytest.mark.services

EXPECTED = {
    "beside.transaction": ["committed", "committed"],
    "beside.django": 1,
    "beside.asgiref": [None, None],
    "beside.to_thread": [None, None],
    "beside.plain_run": "committed",
    "beside.plain_asgiref": "committed",
    "beside.plain": [None, None],
}
EACH = 30


@pytest.fixture(params=["gevent", "eventlet", "threads", "gevent-debug"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Celery]:
    """Who sends to the worker of tests/integration/apps/loops_beside.py."""
    pool, _, debug = request.param.partition("-")
    database = str(tmp_path / "rows.sqlite3")
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE beside_row (id integer PRIMARY KEY AUTOINCREMENT, name text NOT NULL)")
    environment = {"TEST_DATABASE": database, **({"PYTHONASYNCIODEBUG": "1"} if debug else {})}
    with (
        services.redis_database() as url,
        sender(url, url) as app,
        running_worker("loops_beside", "-P", pool, "-c", "40", broker=url, backend=url, **environment) as worker,
    ):
        yield app
        assert worker.stop() == 0
        assert "Traceback" not in worker.log


def test_nobody_sees_the_loop_of_another(app: Celery) -> None:
    sent: list[tuple[str, AsyncResult]] = []
    for number in range(EACH):
        for name in EXPECTED:
            arguments = [f"row {number}"] if name == "beside.django" else []
            sent.append((name, app.send_task(name, arguments)))
    assert [(name, result.get(timeout=200)) for name, result in sent] == [(name, EXPECTED[name]) for name, _ in sent]
