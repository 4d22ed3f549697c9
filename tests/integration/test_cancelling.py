"""A client cancels tasks, wherever they are, and is told the truth about each."""

import asyncio
from typing import Any

import pytest

from pico_celery_client import TaskResult, cancel_all
from pico_celery_core.errors import CancelTimeoutError
from tests.integration.stations import Station, station
from tests.waiting import eventually

pytestmark = [
    pytest.mark.services,
    pytest.mark.timeout(420),
    # Celery's, as it stores a state here.
    pytest.mark.filterwarnings("ignore:.*setex.*:DeprecationWarning"),
]

# With remote control, which the app does without.
SETTINGS: dict[str, object] = {"worker_enable_remote_control": True, "pico_cancel_timeout": 10}

TASKS = 300
SLOW = 120


def result_of(place: Station, task_id: str) -> TaskResult[Any]:
    return TaskResult(task_id, app=place.app)


def test_a_task_is_cancelled_wherever_it_is_and_one_that_has_ended_is_not() -> None:
    with station("redis") as place:
        place.let_go("open")
        with place.worker(settings=SETTINGS) as worker:
            ended = place.send("late", "open")
            eventually(lambda: place.state(ended) == "SUCCESS")
            early, late = place.send("early", "key"), place.send("late", "key")
            later = place.send("early", "key", countdown=600)
            place.until("began", early, late, timeout=90)
            eventually(lambda: f"{later}] received" in worker.log, explain=lambda: worker.log)
            results = [result_of(place, task_id) for task_id in (ended, early, late, later)]
            assert asyncio.run(cancel_all(*results, timeout=SLOW)) == [False, True, True, True]
            assert [place.state(task_id) for task_id in (early, late, later)] == ["REVOKED"] * 3
            for task_id in (early, late):
                assert place.of(task_id) == ["began", "cancelled", "cleaned up"]
            worker.stop()
        # No worker is there to hear it.
        waiting = place.send("early", "open")
        assert asyncio.run(result_of(place, waiting).cancel(timeout=SLOW))
        assert place.state(waiting) == "REVOKED"
        after = place.send("early", "open")
        with place.worker(settings=SETTINGS) as worker:
            place.until("finished", after, timeout=90)
            worker.wait_for_log(f"Discarding revoked task: .*{waiting}")
        assert place.of(waiting) == []


def test_of_a_task_that_begins_at_that_moment_it_is_known_as_well() -> None:
    with station("redis") as place:
        place.let_go("open")
        with place.worker("-c", "10", settings=SETTINGS) as worker:
            results = [result_of(place, place.send("early", "open")) for _ in range(TASKS)]
            cancelled = asyncio.run(cancel_all(*results, timeout=SLOW))
            last = place.send("early", "open")
            place.until("finished", last, timeout=90)
            worker.stop()
        for result, is_cancelled in zip(results, cancelled, strict=True):
            # A handler may be interrupted in the call that records its end, when that has arrived.
            if is_cancelled:
                assert place.state(result.id) == "REVOKED"
                assert f"{result.id}] succeeded" not in worker.log
            else:
                assert "finished" in place.of(result.id)


def test_on_rabbitmq_it_is_certain_of_what_a_worker_has() -> None:
    with station("rabbitmq") as place:
        with place.worker(settings=SETTINGS) as worker:
            running = place.send("late", "key")
            place.until("began", running, timeout=90)
            assert asyncio.run(result_of(place, running).cancel(timeout=SLOW))
            assert place.of(running) == ["began", "cancelled", "cleaned up"]
            worker.stop()
        waiting = place.send("late", "key")
        with pytest.raises(CancelTimeoutError):
            asyncio.run(result_of(place, waiting).cancel(timeout=2))
