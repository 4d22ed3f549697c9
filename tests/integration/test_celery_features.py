"""On each pool: the rest of what Celery offers around a task."""

import time
import uuid
from collections import Counter
from typing import Any

import pytest

from tests.integration.shared import SharedWorker
from tests.integration.workers import celery
from tests.waiting import eventually


@pytest.fixture
def key() -> str:
    return uuid.uuid4().hex


def test_the_context_knows_its_execution(worker: SharedWorker) -> None:
    result = worker.app.send_task(
        "canvas.family", [1], {}, headers={"tenant": "acme"}, priority=3, time_limit=60, retries=2
    )
    seen = result.get(timeout=60)
    deadline = seen.pop("deadline")
    assert 40 < deadline - time.time() <= 60
    assert seen.pop("headers")["tenant"] == "acme"
    assert seen == {
        "id": result.id,
        "name": "canvas.family",
        "args": [1],
        "kwargs": {},
        "retries": 2,
        "max_retries": 3,
        "parent_id": None,
        "root_id": result.id,
        "redelivered": False,
        "priority": 3,
    }


def test_progress_is_seen_by_the_client(worker: SharedWorker, key: str) -> None:
    result = worker.send("canvas.progress", key)
    eventually(lambda: result.state == "PROGRESS", explain=lambda: result.state)
    assert result.info == {"current": 3, "total": 10, "message": "half-way, almost"}
    worker.records.redis.incr(f"arrivals:{key}")
    assert result.get(timeout=60) == "done"


def test_a_started_task_shows_as_started(worker: SharedWorker, key: str) -> None:
    result = worker.send("canvas.hold", key)
    eventually(lambda: result.state == "STARTED", explain=lambda: result.state)
    worker.records.redis.incr(f"arrivals:{key}")
    assert result.get(timeout=60) == "let go"


def test_ignore_result_stores_nothing(worker: SharedWorker) -> None:
    result = worker.send("canvas.ignored")
    worker.records.until(result.id, "body")
    assert worker.get("canvas.late") == 1
    assert result.state == "PENDING"


@pytest.mark.parametrize(
    ("outcome", "signals"),
    [
        ("succeed", {"prerun": 1, "success": 1, "postrun": 1}),
        ("fail", {"prerun": 1, "failure": 1, "postrun": 1}),
        ("retry", {"prerun": 2, "retry": 1, "success": 1, "postrun": 2}),
    ],
)
def test_signals_fire_once(worker: SharedWorker, outcome: str, signals: dict[str, int]) -> None:
    result = worker.send("canvas.signalled", outcome)
    result.get(timeout=60, propagate=False)
    total = sum(signals.values())
    eventually(lambda: len(worker.records.of(f"signals:{result.id}")) >= total)
    assert Counter(worker.records.of(f"signals:{result.id}")) == signals


def test_events_tell_of_a_task(worker: SharedWorker) -> None:
    events: list[dict[str, Any]] = []
    sent: list[str] = []

    with worker.app.connection() as connection:

        def on_event(event: dict[str, Any]) -> None:
            events.append(event)
            if not sent:  # the first event shows that the subscription stands
                sent.append(worker.send("canvas.add", 1, 1).id)
            elif event.get("uuid") == sent[0] and event["type"] == "task-succeeded":
                receiver.should_stop = True

        receiver = worker.app.events.Receiver(connection, handlers={"*": on_event})
        receiver.capture(limit=None, timeout=20, wakeup=True)
    told = [event["type"] for event in events if event.get("uuid") in sent]
    assert sorted(told) == ["task-received", "task-started", "task-succeeded"]


def test_inspect(worker: SharedWorker, key: str) -> None:
    name = next(iter(worker.app.control.inspect(limit=1).ping()))
    inspect = worker.app.control.inspect([name], timeout=10)
    assert {"canvas.add", "outcomes.echo"} <= {*inspect.registered()[name]}
    assert ("pico_celery" in inspect.stats()[name]) is (worker.pool.name != "prefork")
    if worker.pool.listens:
        result = worker.send("canvas.hold", key)
        worker.records.until(result.id, "body")
        assert [task["id"] for task in inspect.active()[name]] == [result.id]
        worker.records.redis.incr(f"arrivals:{key}")
        result.get(timeout=60)


def test_rate_limit(worker: SharedWorker) -> None:
    control = worker.app.control
    replies = control.rate_limit("canvas.late", "10/s", reply=True, limit=1, timeout=10)
    assert [*replies[0].values()] == [{"ok": "new rate limit set successfully"}]
    started = time.monotonic()
    for result in [worker.send("canvas.late") for _ in range(5)]:
        assert result.get(timeout=60) == 1
    assert time.monotonic() - started > 0.3
    control.rate_limit("canvas.late", 0, reply=True, limit=1, timeout=10)


def test_beat_sends_to_an_async_task(worker: SharedWorker, tmp_path: Any) -> None:
    schedule = str(tmp_path / "schedule")
    with celery("beat", "suite", "-s", schedule, TEST_BROKER_URL=worker.url, TEST_BACKEND_URL=worker.url) as beat:
        eventually(lambda: len(worker.records.of("beat")) >= 2, explain=lambda: beat.log)
        assert beat.stop() == 0
