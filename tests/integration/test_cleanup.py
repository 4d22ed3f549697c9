"""On each pool: what was made for an execution is cleaned up once, in reverse order, however the execution ends."""

import signal

import pytest
from celery.exceptions import MaxRetriesExceededError, SoftTimeLimitExceeded, TimeLimitExceeded

from tests.integration.pools import Ends
from tests.integration.shared import SharedWorker
from tests.waiting import eventually

HOOKS = ["task component", "draft", "ledger", "unit of work"]
ENDED = HOOKS[-1]


def test_success(worker: SharedWorker) -> None:
    result = worker.send("cleanups.succeed")
    assert result.get(timeout=60) is True, "the components do not share the unit of work"
    assert worker.records.of(result.id) == ["body", *HOOKS]


def test_failure(worker: SharedWorker) -> None:
    result = worker.send("cleanups.fail")
    with pytest.raises(ValueError, match="on purpose"):
        result.get(timeout=60)
    assert worker.records.of(result.id) == ["body", *HOOKS]


@pytest.mark.parametrize(("task", "value", "executions"), [("retry", 2, 3), ("bound", 1, 2)])
def test_each_retry(worker: SharedWorker, task: str, value: int, executions: int) -> None:
    result = worker.send(f"cleanups.{task}")
    assert result.get(timeout=60) == value
    assert worker.records.of(result.id) == ["body", *HOOKS] * executions


def test_autoretry_until_none_is_left(worker: SharedWorker) -> None:
    result = worker.send("cleanups.autoretry")
    with pytest.raises(ConnectionError, match="again"):
        result.get(timeout=60)
    assert worker.records.of(result.id) == ["body", *HOOKS] * 2


def test_autoretry_with_backoff(worker: SharedWorker) -> None:
    result = worker.send("cleanups.backoff")
    assert result.get(timeout=60) == 1
    assert worker.records.of(result.id) == ["body", *HOOKS] * 2


def test_no_retries_left(worker: SharedWorker) -> None:
    result = worker.send("cleanups.exhaust")
    with pytest.raises(MaxRetriesExceededError):
        result.get(timeout=60)
    assert worker.records.of(result.id) == ["body", *HOOKS]


def test_reject(worker: SharedWorker) -> None:
    result = worker.send("cleanups.reject")
    assert worker.records.until(result.id, ENDED) == ["body", *HOOKS]
    eventually(lambda: result.state == "FAILURE")


def test_ignore(worker: SharedWorker) -> None:
    result = worker.send("cleanups.ignore")
    assert worker.records.until(result.id, ENDED) == ["body", *HOOKS]


def test_soft_time_limit(worker: SharedWorker) -> None:
    result = worker.send_with_limit("cleanups.sleep", soft_time_limit=0.2)
    with pytest.raises(SoftTimeLimitExceeded):
        result.get(timeout=60)
    assert worker.records.of(result.id) == ["body", "SoftTimeLimitExceeded", "finally", *HOOKS]


def test_hard_time_limit(worker: SharedWorker) -> None:
    result = worker.send_with_limit("cleanups.sleep", time_limit=0.2)
    with pytest.raises(TimeLimitExceeded):
        result.get(timeout=60)
    assert result.state == "FAILURE"
    cleaned_up = ["finally", *HOOKS] if worker.pool.hard_limit is Ends.CLEANLY else []
    assert worker.records.of(result.id) == ["body", *cleaned_up]


def test_both_time_limits(worker: SharedWorker) -> None:
    result = worker.send_with_limit("cleanups.sleep", soft_time_limit=0.2, time_limit=20)
    with pytest.raises(SoftTimeLimitExceeded):
        result.get(timeout=60)
    assert worker.records.of(result.id) == ["body", "SoftTimeLimitExceeded", "finally", *HOOKS]


def test_revoked_while_it_runs(worker: SharedWorker) -> None:
    if worker.pool.terminate is Ends.NOT_AT_ALL:
        pytest.skip(f"the {worker.pool} pool cannot end a running task")
    result = worker.send("cleanups.sleep")
    worker.records.until(result.id, "body")
    result.revoke(terminate=True)
    eventually(lambda: result.state == "REVOKED", explain=lambda: result.state)
    if worker.pool.terminate is Ends.CLEANLY:
        assert worker.records.until(result.id, ENDED) == ["body", "finally", *HOOKS]
    assert worker.get("outcomes.echo", "next") == [["next"], {}]
    assert result.state == "REVOKED"
    # As on Celery's own pools of greenlets and processes.
    said = {"postrun None", f"revoked {signal.SIGTERM.value}"}
    eventually(lambda: set(worker.records.of(f"ended:{result.id}")) == said)


def test_a_soft_limit_that_is_not_below_the_hard_one_has_no_effect(worker: SharedWorker) -> None:
    if worker.pool.hard_limit is not Ends.CLEANLY:
        pytest.skip(f"the {worker.pool} pool ends a task at the later one of its limits")
    result = worker.send_with_limit("cleanups.sleep", soft_time_limit=30, time_limit=0.2)
    with pytest.raises(TimeLimitExceeded):
        result.get(timeout=60)
    assert worker.records.until(result.id, ENDED) == ["body", "finally", *HOOKS]


def test_a_hook_that_fails_or_hangs_harms_neither_the_others_nor_the_outcome(worker: SharedWorker) -> None:
    result = worker.send("cleanups.bad_hooks")
    assert result.get(timeout=60) == "unharmed"
    assert worker.records.of(result.id) == ["hanging", "faulty", "unit of work"]
    worker.process.wait_for_log(rf"Clean-up Hanging\.hang of cleanups\.bad_hooks\[{result.id}\] was cut off after 2")
    worker.process.wait_for_log(rf"Clean-up Faulty\.fail of cleanups\.bad_hooks\[{result.id}\] failed")
