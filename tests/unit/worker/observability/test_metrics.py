"""What a scrape shows of tasks that were run by Celery's own tracer, and of the worker."""

import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import signals
from celery.exceptions import Ignore, Reject
from celery.worker import state
from pico_ioc import component
from prometheus_client import REGISTRY, generate_latest

from pico_celery import TaskContext, task
from pico_celery.testing import TaskRunner
from pico_celery_worker import group_commit
from pico_celery_worker.consumer.unacked import ACKNOWLEDGED, EXECUTED, unacked_messages
from pico_celery_worker.dead_letters.keeping import kept
from pico_celery_worker.group_commit import BatchCounts
from pico_celery_worker.loop import current_runner
from pico_celery_worker.observability.metrics import WorkerMetrics
from tests.unit.worker.applications import application

Sample = Callable[..., float]


@component(scope="prototype")
class Tasks:
    def __init__(self, context: TaskContext) -> None:
        self.context = context

    @task("metrics.end", max_retries=1)
    async def end(self, how: str) -> None:
        if how == "fail":
            raise LookupError(how)
        if how == "ignore":
            raise Ignore
        if how == "reject":
            raise Reject
        if how == "retry" and not self.context.retries:
            self.context.retry(countdown=0)


@pytest.fixture
def worker() -> Any:
    return SimpleNamespace(pool=SimpleNamespace(num_processes=100), consumer=SimpleNamespace(restart_count=2))


@pytest.fixture
def runner() -> Iterator[TaskRunner]:
    with TaskRunner(application(Tasks)) as runner:
        yield runner


@pytest.fixture
def metrics(worker: Any, runner: TaskRunner) -> Iterator[WorkerMetrics]:
    metrics = WorkerMetrics(worker)
    metrics.start()
    yield metrics
    metrics.stop()


@pytest.fixture
def sample(metrics: WorkerMetrics) -> Sample:
    """Read a sample of the registry, without what other tests have counted."""
    before: dict[Any, float] = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
    }

    def read(name: str, **labels: str) -> float:
        value = REGISTRY.get_sample_value(f"pico_celery_{name}", labels) or 0
        return value - before.get((f"pico_celery_{name}", tuple(sorted(labels.items()))), 0)

    return read


@pytest.mark.parametrize(
    ("how", "outcomes"),
    [
        ("succeed", {"succeeded": 1}),
        ("fail", {"failed": 1}),
        ("ignore", {"ignored": 1}),
        ("reject", {"rejected": 1}),
        ("retry", {"retried": 1, "succeeded": 1}),
    ],
)
def test_each_execution_is_counted_by_its_outcome(how, outcomes, runner, sample):
    runner.app.send_task("metrics.end", [how])
    runner.join()

    every = ("succeeded", "failed", "ignored", "rejected", "retried", "revoked", "expired")
    counted = {outcome: sample("tasks_total", task="metrics.end", outcome=outcome) for outcome in every}
    assert {outcome: count for outcome, count in counted.items() if count} == outcomes
    executions = sum(outcomes.values())
    assert sample("task_duration_seconds_count", task="metrics.end") == executions
    assert sample("task_queue_seconds_count", task="metrics.end") == executions


@pytest.mark.parametrize(("expired", "outcome"), [(False, "revoked"), (True, "expired")])
def test_what_never_begins_is_counted(expired, outcome, runner, sample):
    task = runner.app.tasks["metrics.end"]

    signals.task_revoked.send(sender=task, request=None, terminated=False, signum=None, expired=expired)

    assert sample("tasks_total", task="metrics.end", outcome=outcome) == 1
    assert sample("task_duration_seconds_count", task="metrics.end") == 0


def test_the_time_in_the_queue_counts_from_the_publishing(runner, sample):
    def publish_an_hour_ago(headers: Any, **_: Any) -> None:
        headers["pico_published_at"] = time.time() - 3600

    signals.before_task_publish.connect(publish_an_hour_ago)
    try:
        runner.app.send_task("metrics.end", ["succeed"])
        runner.join()
    finally:
        signals.before_task_publish.disconnect(publish_an_hour_ago)

    assert sample("task_queue_seconds_sum", task="metrics.end") >= 3590
    assert sample("task_queue_seconds_bucket", task="metrics.end", le="1800.0") == 0


def test_a_message_that_does_not_say_when_it_was_published_has_no_time_in_the_queue(runner, sample):
    def forget(headers: Any, **_: Any) -> None:
        headers["pico_published_at"] = "some day"

    signals.before_task_publish.connect(forget)
    try:
        runner.app.send_task("metrics.end", ["succeed"])
        runner.join()
    finally:
        signals.before_task_publish.disconnect(forget)

    assert sample("task_queue_seconds_count", task="metrics.end") == 0
    assert sample("task_duration_seconds_count", task="metrics.end") == 1


def test_what_the_worker_counts_anyway_is_read_at_a_scrape(sample, worker, monkeypatch):
    monkeypatch.setattr(state, "active_requests", {1, 2})
    monkeypatch.setattr(state, "reserved_requests", {1, 2, 3})
    monkeypatch.setitem(group_commit.counts, "settle", BatchCounts(batches=4, items=90, largest=50))
    monkeypatch.setitem(unacked_messages.settlements, ACKNOWLEDGED, 7)
    monkeypatch.setitem(unacked_messages.redeliveries, EXECUTED, 5)
    monkeypatch.setitem(kept, "arguments", 6)
    watchdog = SimpleNamespace(last=0.25, worst=1.5, stop=lambda: None)
    monkeypatch.setattr(current_runner(), "lag", watchdog)

    read = {
        name: REGISTRY.get_sample_value(f"pico_celery_{name}", labels)
        for name, labels in {
            "tasks_in_flight": {},
            "tasks_reserved": {},
            "tasks_capacity": {},
            "broker_reconnections_total": {},
            "loop_lag_seconds": {},
            "loop_lag_worst_seconds": {},
            "batches_total": {"kind": "settle"},
            "batch_items_total": {"kind": "settle"},
            "batch_largest": {"kind": "settle"},
            "settlements_total": {"settlement": "acknowledged"},
            "redeliveries_total": {"handling": "executed"},
            "dead_letters_total": {"reason": "arguments"},
        }.items()
    }
    assert [*read.values()] == [2, 3, 100, 2, 0.25, 1.5, 4, 90, 50, 7, 5, 6]


def test_a_worker_that_has_not_begun_can_be_scraped(metrics, worker):
    worker.consumer = None

    assert b"pico_celery_broker_reconnections_total 0.0" in generate_latest()


def test_a_worker_that_has_stopped_is_not_asked(worker):
    metrics = WorkerMetrics(worker)
    metrics.start()
    metrics.stop()

    assert b"pico_celery_tasks_capacity" not in generate_latest()
    metrics.start()
    metrics.stop()
