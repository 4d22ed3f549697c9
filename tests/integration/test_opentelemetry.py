"""OpenTelemetry beside us: what handlers do hangs under their task, and that under who has sent it."""

import asyncio
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from celery import Celery, chain
from pico_ioc import DictSource, configuration, init

from pico_celery import CeleryClient, TaskResult, celery, partial_signature, send_task, signature
from tests.integration.workers import running_worker, sender
from tests.tracing import Tracing, collector, tracing

pytestmark = [pytest.mark.services, pytest.mark.timeout(420)]

COUNT = 20


@celery
class Client(CeleryClient):
    @send_task("traced.work")
    async def work(self, number: int) -> int: ...

    @send_task("traced.work")
    def work_sync(self, number: int) -> int: ...

    @send_task("traced.leaf")
    def leaf(self, number: int) -> int: ...

    @send_task("traced.send")
    async def send(self, number: int) -> str: ...

    @send_task("traced.retry")
    def retry(self, number: int) -> int: ...

    @send_task("traced.fail")
    async def fail(self, number: int) -> None: ...


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tracing]:
    with tracing(monkeypatch) as traced:
        yield traced


def client_of(app: Celery) -> Client:
    module = ModuleType("application")
    vars(module)["Client"] = Client
    container = init(
        modules=["pico_celery_client", module],
        config=configuration(DictSource({"celery": {}})),
        overrides={Celery: app},
    )
    return container.get(Client)


async def send_all(client: Client, traced: Tracing) -> list[TaskResult[Any]]:
    """Send as a web application does: many at once, each within a span of its own."""

    async def send(method: Any, name: str, number: int) -> TaskResult[Any]:
        with traced.tracer.start_as_current_span(f"{name} {number}"):
            return await method(number)

    sent = [send(client.work, "request", number) for number in range(COUNT)]
    others = (client.send, "sender", 100), (client.fail, "failer", 300)
    return list(await asyncio.gather(*sent, *(send(*other) for other in others)))


@pytest.mark.parametrize("pool", [pytest.param("gevent", marks=pytest.mark.smoke), "threads", "prefork"])
def test_spans_hang_together(pool: str, redis_url: str, traced: Tracing) -> None:
    with collector() as collected, sender(redis_url, redis_url) as app:
        client = client_of(app)
        with running_worker(
            "traced", "-P", pool, "-c", "4", broker=redis_url, backend=redis_url, TEST_COLLECTOR=collected.url
        ) as worker:
            results = asyncio.run(send_all(client, traced))
            with traced.tracer.start_as_current_span("plain"):
                results.append(client.work_sync(400))
            with traced.tracer.start_as_current_span("chain"):
                steps = chain(signature(client.leaf, 500), partial_signature(client.work_sync))
                results.append(steps.apply_async())
            for result in results:
                result.get(timeout=90, propagate=False)
            leaf = app.AsyncResult(results[COUNT].get(timeout=90))
            leaf.get(timeout=90)
            assert "Failed to detach context" not in worker.log
            # The instrumentation keeps one span for each id. A retry that begins before its predecessor has ended has
            # the same, of which only its log tells.
            with traced.tracer.start_as_current_span("retrier"):
                client.retry(200).get(timeout=90)
            assert worker.stop() == 0  # and sends what it has not sent yet
        traces = traced.traces + collected.traces

    def sending(name: str) -> list[str]:
        return [f"send traced.{name}", f"apply_async/traced.{name}", f"run/traced.{name}"]

    for number in range(COUNT):
        for name in "child", "blocking":
            path = [f"request {number}", *sending("work"), f"handler {number}", f"{name} {number}"]
            assert traces.path(f"{name} {number}") == path
    assert traces.path("leaf 100") == ["sender 100", *sending("send"), "handler 100", *sending("leaf"), "leaf 100"]
    retried = ["apply_async/traced.retry", "run/traced.retry"]
    assert traces.path("try 1 of 200") == ["retrier", *sending("retry"), *retried, "try 1 of 200"]
    assert traces.path("handler 400") == ["plain", *sending("work"), "handler 400"]
    next_step = ["apply_async/traced.work", "run/traced.work", "handler 500"]
    assert traces.path("handler 500") == ["chain", *sending("leaf"), *next_step]
    assert traces.path("run/traced.fail") == ["failer 300", *sending("fail")]
    assert [span.name for span in traces.spans if span.failed] == ["run/traced.fail"]
