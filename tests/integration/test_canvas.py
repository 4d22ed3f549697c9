"""On each pool: Celery's canvas, with async tasks."""

import asyncio
import uuid
from types import ModuleType
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery.canvas import Signature
from celery.exceptions import ChordError
from pico_ioc import init

from pico_celery import CeleryClient, celery, partial_signature, send_task, signature
from tests.integration.shared import SharedWorker
from tests.waiting import eventually


@pytest.fixture
def key() -> str:
    return uuid.uuid4().hex


def test_chain(worker: SharedWorker) -> None:
    steps = chain(add(worker, 1, 2), add(worker, 4), add(worker, 10), app=worker.app)
    assert steps.apply_async().get(timeout=60) == 17


def test_a_chain_ends_with_its_first_failure(worker: SharedWorker) -> None:
    result = chain(add(worker, 1, 2), of(worker, "canvas.fail"), add(worker, 10), app=worker.app).apply_async()
    with pytest.raises(ValueError, match="on purpose"):
        result.get(timeout=60)


def test_group(worker: SharedWorker) -> None:
    result = group([add(worker, number, 1) for number in range(20)], app=worker.app).apply_async()
    assert result.get(timeout=60) == list(range(1, 21))


def test_chord(worker: SharedWorker) -> None:
    header = [add(worker, number, 1) for number in range(20)]
    assert chord(header, app=worker.app)(of(worker, "canvas.total")).get(timeout=60) == 210


def test_a_chord_in_a_chain_of_chords(worker: SharedWorker) -> None:
    inner = chord([add(worker, 1, 1), add(worker, 2, 2)], of(worker, "canvas.total"), app=worker.app)
    outer = chain(inner, group([add(worker, 1), add(worker, 2)], app=worker.app), of(worker, "canvas.total"))
    assert outer.apply_async().get(timeout=60) == 15


def test_an_error_in_a_chord_reaches_its_body(worker: SharedWorker, key: str) -> None:
    body = of(worker, "canvas.total").on_error(of(worker, "canvas.on_error", key))
    result = chord([add(worker, 1, 1), of(worker, "canvas.fail")], app=worker.app)(body)
    with pytest.raises(ChordError, match="on purpose"):
        result.get(timeout=60, follow_parents=False)
    eventually(lambda: len(worker.records.of(key)) >= 1)


def test_link(worker: SharedWorker, key: str) -> None:
    add(worker, 1, 2).apply_async(link=of(worker, "canvas.record", key))
    assert worker.records.until(key, "3") == ["3"]


def test_link_error(worker: SharedWorker, key: str) -> None:
    result = of(worker, "canvas.fail").apply_async(link_error=of(worker, "canvas.on_error", key))
    assert worker.records.until(key, result.id) == [result.id]


def test_a_task_that_sends_a_task_is_its_parent(worker: SharedWorker) -> None:
    parent = worker.send("canvas.fan_out")
    child = worker.app.AsyncResult(parent.get(timeout=60)).get(timeout=30)
    assert (child["parent_id"], child["root_id"]) == (parent.id, parent.id)


def test_the_tasks_of_a_chain_have_one_root(worker: SharedWorker) -> None:
    result = chain(add(worker, 1, 2), of(worker, "canvas.family"), app=worker.app).apply_async()
    family = result.get(timeout=60)
    assert (family["parent_id"], family["root_id"]) == (result.parent.id, result.parent.id)
    assert family["args"] == [3]


def test_typed_signatures(worker: SharedWorker, key: str) -> None:
    client = client_of(worker)
    three = signature(client.add, 1, 2)
    steps = chain(three, partial_signature(client.add, 4), signature(client.add, 5, 6))
    assert steps.apply_async().get(timeout=60) == 11
    assert group(three, three).apply_async().get(timeout=60) == [3, 3]
    assert chord([three, three])(partial_signature(client.total)).get(timeout=60) == 6
    three.apply_async(link=partial_signature(client.record, key))
    assert worker.records.until(key, "3") == ["3"]
    failing = signature(client.fail)
    failing.link_error(signature(client.record, "failed", key))
    failing.delay()
    assert "failed" in worker.records.until(key, "failed")


async def test_the_results_of_typed_signatures_can_be_awaited(worker: SharedWorker) -> None:
    client = client_of(worker)
    steps = chain(signature(client.add, 1, 2), partial_signature(client.add, 4))
    result = await asyncio.to_thread(steps.apply_async)
    assert await result.wait(timeout=60) == 7


@celery
class CanvasClient(CeleryClient):
    @send_task("canvas.add")
    def add(self, a: int, b: int) -> int: ...

    @send_task("canvas.total")
    async def total(self, numbers: list[int]) -> int: ...

    @send_task("canvas.record")
    def record(self, value: Any, key: str) -> None: ...

    @send_task("canvas.fail")
    def fail(self) -> None: ...


def client_of(worker: SharedWorker) -> CanvasClient:
    application = ModuleType("application")
    vars(application)["CanvasClient"] = CanvasClient
    overrides = {Celery: worker.app}
    return init(modules=["pico_celery_client", application], overrides=overrides).get(CanvasClient)


def of(worker: SharedWorker, name: str, *args: object) -> Signature:
    return worker.app.signature(name, args)


def add(worker: SharedWorker, *args: int) -> Signature:
    return of(worker, "canvas.add", *args)
