"""A broker, a result backend, workers between them, and who sends to them: for tests of what goes wrong there."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from celery import Celery
from kombu import Queue

from tests import services
from tests.integration.shared import Records
from tests.integration.workers import Worker, running_worker, sender
from tests.waiting import eventually

KINDS = ("redis", "rabbitmq", "quorum")

# What a test looks for in the log of a worker that did well.
TROUBLE = ("Traceback", "BlockingSwitchOutError", "RuntimeWarning", "never awaited", "Unrecoverable", "CRITICAL")


@dataclass(frozen=True)
class Station:
    """Where workers run the tasks of tests/integration/apps/endurance.py.

    Args:
        kind: One of KINDS.
        broker: The broker's URL.
        backend: A Redis that nothing happens to: it keeps the records, and the results if they are not elsewhere.
        results: The result backend's URL, if it is another.
        queue: The queue's name.
        app: Sends.
        records: What the tasks have recorded.
    """

    kind: str
    broker: str
    backend: str
    results: str
    queue: str
    app: Celery
    records: Records

    def worker(
        self,
        *options: str,
        app: str = "endurance",
        broker: str = "",
        pool: str = "gevent",
        settings: dict[str, object] | None = None,
        is_alone: bool = True,
        **more: str,
    ) -> AbstractContextManager[Worker]:
        """Run a worker until the block ends.

        Args:
            *options: Of `celery worker`.
            app: The module of the app, below tests/integration/apps.
            broker: Where the worker finds the broker, if not where the station does.
            pool: The pool.
            settings: Celery's.
            is_alone: Whether it does without other workers.
            **more: Environment variables.
        """
        quorum = {"TEST_QUORUM": "1"} if self.kind == "quorum" else {}
        return running_worker(
            app,
            *("-P", pool, "-c", "2" if pool == "prefork" else "20", *options),
            broker=broker or self.broker,
            backend=self.backend,
            queue=self.queue,
            is_alone=is_alone,
            **quorum,
            TEST_RESULTS_URL=self.results,
            TEST_SETTINGS=json.dumps(settings or {}),
            **more,
        )

    def send(self, name: str, *args: object, **options: object) -> str:
        """Send a task and return its id."""
        return self.app.send_task(f"endurance.{name}", args, ignore_result=False, **options).id

    def state(self, task_id: str) -> str:
        return self.app.backend.get_state(task_id)

    def consumers(self) -> int:
        """How many consumers RabbitMQ counts, also those whose end it has not noticed yet; with Redis always 1."""
        if self.kind == "redis":
            return 1
        with self.app.connection_for_read() as connection, connection.channel() as channel:
            declared: Any = queue_of(self.kind, self.queue)(channel).queue_declare(passive=True)
            return int(declared.consumer_count)

    def of(self, task_id: str) -> list[str]:
        """What a task has recorded."""
        return self.records.of(task_id)

    def until(self, what: str, *task_ids: str, count: int = 1, timeout: float = 30) -> None:
        """Wait until each task has recorded something so often."""

        def records() -> list[list[str]]:
            return [self.of(task_id) for task_id in task_ids]

        eventually(lambda: all(found.count(what) >= count for found in records()), timeout, records)

    def let_go(self, key: str) -> None:
        """Let the tasks finish that wait for a key."""
        self.records.redis.incr(f"arrivals:{key}")


def queue_of(kind: str, name: str) -> Queue:
    """Return a queue as senders and workers declare it.

    Args:
        kind: One of KINDS.
        name: The queue's.
    """
    arguments = {"x-queue-type": "quorum"} if kind == "quorum" else {}
    return Queue(name, routing_key=name, queue_arguments=arguments)


@contextmanager
def station(kind: str, broker: str = "", results: str = "") -> Iterator[Station]:
    """Set up a station.

    Args:
        kind: One of KINDS.
        broker: The broker's URL, if it is one of the test's own.
        results: The result backend's URL, if the records are to be elsewhere.
    """
    with ExitStack() as stack:
        backend = stack.enter_context(services.redis_database())
        queue = "celery" if kind == "redis" else stack.enter_context(services.rabbitmq_queue())
        if not broker:
            broker = backend if kind == "redis" else services.rabbitmq_url()
        app = stack.enter_context(sender(broker, results or backend, queue))
        app.conf.task_queues = [queue_of(kind, queue)]
        records = Records(backend)
        stack.callback(records.redis.close)
        yield Station(kind, broker, backend, results, queue, app, records)


def on(*kinds: str) -> pytest.MarkDecorator:
    """Run a test once on each kind of broker: its fixture `place` is a station there.

    Args:
        kinds: Some of KINDS.
    """
    return pytest.mark.parametrize("place", kinds, indirect=True)


def assert_quiet(worker: Worker) -> None:
    """Check that nothing went wrong in a worker by its log."""
    found = [line for line in worker.lines if any(word in line for word in TROUBLE)]
    assert not found, worker.log
