"""A worker's metrics, in the default registry of prometheus-client.

What happens to tasks is counted by Celery's signals, so plain tasks are counted too. All else is read from what the
worker counts anyway, when it is scraped. The only labels are names of registered tasks, and words of a fixed set.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from celery import signals, states
from celery.exceptions import Reject
from celery.worker import state

from pico_celery_core.publishing_time import published_at
from pico_celery_worker import group_commit
from pico_celery_worker.consumer.unacked import unacked_messages
from pico_celery_worker.dead_letters.keeping import kept
from pico_celery_worker.loop import current_runner

if TYPE_CHECKING or find_spec("prometheus_client") is not None:
    from prometheus_client import REGISTRY, Counter, Histogram
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector
else:
    # A container that looks through the worker's package imports this module also where the extra `metrics` is not
    # installed. Nothing of it is used then.
    Collector = object
    REGISTRY = Counter = Histogram = CounterMetricFamily = GaugeMetricFamily = Metric = lambda *_, **__: None

# In seconds. Tasks take longer than the requests of a web server, for which the default ones are.
_DURATIONS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)

TASKS: Final = Counter("pico_celery_tasks", "Executions of tasks that have ended, by outcome", ("task", "outcome"))
DURATION: Final = Histogram(
    "pico_celery_task_duration_seconds", "How long an execution has taken", ("task",), buckets=_DURATIONS
)
QUEUED: Final = Histogram(
    "pico_celery_task_queue_seconds",
    "How long a message has waited from its publishing, or its eta, until its task began",
    ("task",),
    buckets=_DURATIONS,
)

_SUCCEEDED: Final = "succeeded"
_FAILED: Final = "failed"
_REVOKED: Final = "revoked"
_EXPIRED: Final = "expired"

# Failures and revocations have signals of their own, which come also where the execution did not end by itself.
_OUTCOMES: Final = {
    states.SUCCESS: _SUCCEEDED,
    states.RETRY: "retried",
    states.IGNORED: "ignored",
    states.REJECTED: "rejected",
}

_BEGAN: Final = "pico_began"


@dataclass(frozen=True, slots=True)
class _Series:
    """What is counted of one task."""

    succeeded: Counter
    duration: Histogram
    queued: Histogram


class WorkerMetrics(Collector):
    """Counts what happens to tasks, and reads the rest from a worker when it is asked.

    Args:
        worker: Celery's worker.
    """

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        # Looking up a series by its labels takes as long as to count.
        self._series: dict[str, _Series] = {}
        self._receivers: tuple[tuple[Any, Callable[..., None]], ...] = (
            (signals.task_prerun, self._on_prerun),
            (signals.task_postrun, self._on_postrun),
            (signals.task_failure, self._on_failure),
            (signals.task_revoked, self._on_revoked),
        )

    def start(self) -> None:
        """Begin to count."""
        REGISTRY.register(self)
        for signal, receiver in self._receivers:
            signal.connect(receiver, weak=False)

    def stop(self) -> None:
        """Stop counting, and leave the registry. What was counted remains, as long as the process does."""
        for signal, receiver in self._receivers:
            signal.disconnect(receiver)
        REGISTRY.unregister(self)

    def _of(self, task: str) -> _Series:
        series = self._series.get(task)
        if series is None:
            series = _Series(TASKS.labels(task, _SUCCEEDED), DURATION.labels(task), QUEUED.labels(task))
            self._series[task] = series
        return series

    def _on_prerun(self, task: Any, **_: Any) -> None:
        request = vars(task.request)
        published = published_at(request, request.get("properties") or {})
        if published is not None:
            self._of(task.name).queued.observe(max(time.time() - published, 0))
        request[_BEGAN] = time.monotonic()

    def _on_postrun(self, task: Any, state: Any = None, **_: Any) -> None:
        series = self._of(task.name)
        began = vars(task.request).get(_BEGAN)
        if began is not None:
            series.duration.observe(time.monotonic() - began)
        if state == states.SUCCESS:
            series.succeeded.inc()
        elif state in _OUTCOMES:
            TASKS.labels(task.name, _OUTCOMES[state]).inc()

    def _on_failure(self, sender: Any, exception: Any = None, **_: Any) -> None:
        # Celery calls it a failure, too, where a message is rejected for good.
        if not isinstance(exception, Reject):
            TASKS.labels(sender.name, _FAILED).inc()

    def _on_revoked(self, sender: Any, expired: bool = False, **_: Any) -> None:
        TASKS.labels(sender.name, _EXPIRED if expired else _REVOKED).inc()

    def describe(self) -> Iterable[Metric]:
        """Name no metric beforehand: to do so would ask a worker that has not begun."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield what the worker counts anyway."""
        yield _gauge("tasks_in_flight", "Tasks that run now", len(state.active_requests))
        yield _gauge("tasks_reserved", "Messages that the worker has, running or not", len(state.reserved_requests))
        yield _gauge("tasks_capacity", "Tasks that can run at once", self._worker.pool.num_processes)
        lag = current_runner().lag
        if lag is not None:
            yield _gauge("loop_lag_seconds", "How late the event loop's last beat was", lag.last)
            yield _gauge("loop_lag_worst_seconds", "How late a beat was at most since the worker began", lag.worst)
        consumer = getattr(self._worker, "consumer", None)
        restarts = max(consumer.restart_count, 0) if consumer is not None else 0
        yield _counter("broker_reconnections", "How often the broker's connection was lost", restarts)
        yield _counters("settlements", "Messages that were settled", "settlement", unacked_messages.settlements)
        yield _counters("redeliveries", "Messages that were delivered again", "handling", unacked_messages.redeliveries)
        yield _counters("dead_letters", "Messages that were kept as dead letters", "reason", kept)
        counts = group_commit.counts
        yield _counters("batches", "Batches sent to Redis", "kind", {kind: n.batches for kind, n in counts.items()})
        yield _counters("batch_items", "Items in these batches", "kind", {kind: n.items for kind, n in counts.items()})
        largest = GaugeMetricFamily("pico_celery_batch_largest", "Items in the largest batch so far", labels=("kind",))
        for kind, count in counts.items():
            largest.add_metric((kind,), count.largest)
        yield largest


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(f"pico_celery_{name}", documentation, value=value)


def _counter(name: str, documentation: str, value: float) -> Metric:
    return CounterMetricFamily(f"pico_celery_{name}", documentation, value=value)


def _counters(name: str, documentation: str, label: str, values: dict[str, int]) -> Metric:
    family = CounterMetricFamily(f"pico_celery_{name}", documentation, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family
