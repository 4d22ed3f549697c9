"""On each pool: time limits and revocation inside the coroutine, and tasks that do not behave."""

import pytest
from celery.exceptions import TimeLimitExceeded

from tests.integration.pools import Ends
from tests.integration.shared import SharedWorker
from tests.waiting import eventually


def test_the_body_may_catch_the_soft_limit_and_still_await(worker: SharedWorker) -> None:
    assert worker.get("interruptions.caught") == "caught, and awaited"


def test_limits_that_are_not_reached_change_nothing(worker: SharedWorker) -> None:
    assert worker.get("interruptions.in_time") == "in time"


def test_a_body_that_swallows_its_cancellation_is_closed(worker: SharedWorker) -> None:
    if worker.pool.hard_limit is not Ends.CLEANLY:
        pytest.skip(f"the {worker.pool} pool kills the process")
    result = worker.send_with_limit("interruptions.swallow", time_limit=0.2)
    with pytest.raises(TimeLimitExceeded):
        result.get(timeout=60)
    assert worker.records.until(result.id, "finally") == ["body", "swallowed", "finally"]
    worker.process.wait_for_log(rf"{result.id}\] did not stop within 2(\.0)? s after cancellation: closing its")


def test_a_body_that_holds_up_the_loop_is_named_in_the_log_with_its_stack(worker: SharedWorker) -> None:
    result = worker.send("interruptions.compute", 0.8)
    result.get(timeout=60)
    worker.process.wait_for_log(rf"The event loop was held up for .* by task interruptions\.compute\[{result.id}\]")
    worker.process.wait_for_log("in _spin_for")


def test_asyncio_tasks_that_an_execution_leaves_are_cancelled_and_logged(worker: SharedWorker) -> None:
    result = worker.send("interruptions.leave_tasks")
    result.get(timeout=60)
    assert worker.records.of(result.id) == ["left task ended"] * 3
    worker.process.wait_for_log(rf"{result.id}\] left 3 asyncio tasks running")
    assert worker.get("interruptions.others") == []


def test_a_task_revoked_before_it_runs_never_runs(worker: SharedWorker) -> None:
    result = worker.send("cleanups.succeed", countdown=2)
    worker.app.control.revoke(result.id)
    eventually(lambda: result.state == "REVOKED", explain=lambda: result.state)
    assert worker.records.of(result.id) == []


def test_an_expired_task_never_runs(worker: SharedWorker) -> None:
    result = worker.send("cleanups.succeed", countdown=0.3, expires=0.1)
    eventually(lambda: result.state == "REVOKED", explain=lambda: result.state)
    assert worker.records.of(result.id) == []
