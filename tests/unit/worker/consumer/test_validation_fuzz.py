"""Messages of every shape, at the boundary between the broker and a handler: none does harm, each is answered once."""

import asyncio
import json
import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, signals
from celery.worker import state
from celery.worker.consumer import Consumer
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from kombu.message import Message
from kombu.serialization import prepare_accept_content
from pico_ioc import component

from pico_celery_core.decorators import task
from pico_celery_worker.consumer.consumer import ReliableConsumer
from pico_celery_worker.consumer.validation import rejecting_malformed
from pico_celery_worker.loop import close_runner
from pico_celery_worker.pools.job import TaskJob
from tests.unit.worker.applications import app_of
from tests.unit.worker.messages import content_types, encodings, headers, payloads

NAME = "fuzz.take"


@component(scope="prototype")
class FuzzTasks:
    @task(NAME)
    async def take(self, *args: Any, **kwargs: Any) -> list[Any]:
        await asyncio.sleep(0)
        return [list(args), kwargs]


class Channel:
    """Where messages come from, and are answered."""

    def __init__(self) -> None:
        self.answers: list[str] = []
        self.no_ack_consumers: set[str] | None = None

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        self.answers.append("acknowledged")

    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None:
        self.answers.append("requeued" if requeue else "rejected")


class Pool:
    """Runs each task at once, where it is asked to, and tells of it as the gevent pool does."""

    is_green = True
    signal_safe = True
    num_processes = 1

    def apply_async(
        self, target: Any, args: Any, *, accept_callback: Any, callback: Any, error_callback: Any, **_: Any
    ) -> None:
        job = TaskJob(target, callback, error_callback, accept_callback)
        job.accept(1, 0.0)
        job.report(job.run(*args, app=self.app))

    app: Celery


class Worker:
    """A consumer without a broker."""

    def __init__(self, app: Celery) -> None:
        self.app = app
        self.pool = Pool()
        self.pool.app = app
        self.timed: list[Any] = []
        timer = SimpleNamespace(call_at=lambda eta, function, args, **_: self.timed.append((function, args)))
        controller = SimpleNamespace(state=state, semaphore=None, consumer=None, use_eventloop=False)
        self.consumer = ReliableConsumer(
            lambda request: request.execute_using_pool(self.pool),
            app=app,
            pool=self.pool,
            timer=timer,
            controller=controller,
            hub=None,
            disable_rate_limits=True,
            initial_prefetch_count=1,
        )
        self.consumer.event_dispatcher = None
        self.consumer.qos = SimpleNamespace(increment_eventually=lambda: None, decrement_eventually=lambda: None)
        self.consumer.on_decode_error = self._drop
        self.consumer.update_strategies()
        self.receive = self.consumer.create_task_handler()

    def _drop(self, message: Any, error: Exception) -> None:
        """Do as Celery's consumer, which acknowledges what it cannot decode."""
        Consumer.on_decode_error(self.consumer, message, error)
        assert message.channel.answers.pop() == "acknowledged"
        message.channel.answers.append("dropped")

    def take(self, **message: Any) -> list[str]:
        """Receive a message, as kombu's consumer hands it over, and return how it was answered."""
        channel = Channel()
        received = Message(channel=channel, delivery_tag="tag", delivery_info={}, **message)
        received.accept = prepare_accept_content(["json"])
        if received.errors:
            self.consumer.on_decode_error(received, ValueError("not decompressed"))
        else:
            self.receive(received)
        if self.timed:
            channel.answers.append("scheduled")
            self.timed.clear()
        return channel.answers


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    # What other tests have left in Celery's own state is not this worker's.
    state.reset_state()
    app = app_of(FuzzTasks, broker_url="memory://", backend_url="cache+memory://")
    app.set_current()
    yield Worker(app)
    app.close()
    close_runner()


def test_a_message_as_celery_sends_it_runs_the_task(worker: Worker) -> None:
    task_id = str(uuid.uuid4())
    body = json.dumps([[1], {"two": 2}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
    sent = {"task": NAME, "id": task_id, "lang": "py"}
    answers = worker.take(body=body, headers=sent, content_type="application/json", content_encoding="utf-8")
    assert answers == ["acknowledged"]
    assert worker.app.AsyncResult(task_id).get(timeout=60) == [[1], {"two": 2}]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(payload=payloads(NAME), sent=headers(NAME) | st.just({}), content_type=content_types, encoding=encodings)
@example(payload=b"null", sent={"task": NAME, "id": "an-id"}, content_type="application/json", encoding="utf-8")
@example(payload=b"[[],{},{}]", sent={"task": NAME}, content_type="application/json", encoding="utf-8")
@example(payload=b"[[],{},{}]", sent={"task": [], "id": {}}, content_type="application/json", encoding="utf-8")
@example(payload=b"[" * 100_000, sent={"task": NAME, "id": "x"}, content_type="application/json", encoding="utf-8")
def test_any_message_is_answered_once_and_leaves_nothing_behind(
    worker: Worker, payload: bytes, sent: dict[str, Any], content_type: str, encoding: str
) -> None:
    rejected: list[Any] = []
    signals.task_rejected.connect(lambda **told_of: rejected.append(told_of), weak=False, dispatch_uid="fuzz")
    try:
        answers = worker.take(body=payload, headers=dict(sent), content_type=content_type, content_encoding=encoding)
    finally:
        signals.task_rejected.disconnect(dispatch_uid="fuzz")
    assert len(answers) == 1, answers
    assert answers[0] in ("acknowledged", "dropped", "rejected", "scheduled")
    assert len(rejected) <= (answers == ["rejected"])
    if answers == ["acknowledged"] and "task" in sent and not sent.get("ignore_result"):
        assert worker.app.AsyncResult(sent["id"]).ready()
    if answers != ["scheduled"]:
        assert not state.requests
    state.requests.clear()
    state.reserved_requests.clear()


def test_the_connections_errors_are_not_taken_for_the_messages(worker: Worker) -> None:
    def lose(message: Any) -> None:
        raise worker.consumer.connection_errors[0]

    message = Message(body=b"[[],{},{}]", headers={"task": NAME, "id": "x"}, content_type="application/json")
    with pytest.raises(worker.consumer.connection_errors):
        rejecting_malformed(worker.consumer, lose)(message)
