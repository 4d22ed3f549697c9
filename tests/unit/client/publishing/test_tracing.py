"""A span around the sending of a message: it is open until the broker has the message."""

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, signals
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from pico_celery_client import CeleryClient, celery, signature
from pico_celery_client.publishing.redis import RedisBatch
from pico_celery_client.publishing.tracing import span_of_sending
from pico_celery_core import send_task
from pico_celery_core.errors import ArgumentEncodingError
from tests.tracing import Tracing, tracing


@celery
class Client(CeleryClient):
    @send_task("tasks.run")
    async def run(self, number: Any) -> int: ...

    @send_task("tasks.run")
    def run_here(self, number: Any) -> int: ...


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tracing]:
    with tracing(monkeypatch) as traced:
        yield traced


@pytest.fixture
def open_at_publishing(traced: Tracing) -> Iterator[list[bool]]:
    """Whether the span of a message was open when the broker had it."""
    seen: list[bool] = []

    def note(**_: Any) -> None:
        seen.append("send tasks.run" not in traced.traces.names)

    signals.after_task_publish.connect(note)
    yield seen
    signals.after_task_publish.disconnect(note)


def is_around(traced: Tracing) -> bool:
    outer, inner = (traced.traces.one(name) for name in ("send tasks.run", "apply_async/tasks.run"))
    return inner.parent == outer.id and outer.start <= inner.start <= inner.end <= outer.end


async def test_the_span_of_an_async_stub_ends_when_its_message_is_sent(container, traced, open_at_publishing):
    await container(Client).get(Client).run(1)
    assert open_at_publishing == [True]
    assert is_around(traced)


def test_the_span_of_a_plain_stub_ends_when_its_message_is_sent(container, traced, open_at_publishing):
    container(Client).get(Client).run_here(1)
    assert open_at_publishing == [True]
    assert is_around(traced)


def test_a_signature_has_a_span_as_its_stub_has(container, traced, open_at_publishing):
    signature(container(Client).get(Client).run, 1).delay()
    assert open_at_publishing == [True]
    assert is_around(traced)


def test_a_message_carries_its_trace(container, traced, sent):
    with traced.tracer.start_as_current_span("request"):
        container(Client).get(Client).run_here(1)
    (message,) = sent()
    span = traced.traces.one("apply_async/tasks.run")
    assert message.headers["traceparent"] == f"00-{span.trace:032x}-{span.id:016x}-03"
    assert span.trace == traced.traces.one("request").trace


def test_what_cannot_be_sent_has_a_span_that_says_so(container, traced):
    client = container(Client).get(Client)
    with pytest.raises(ArgumentEncodingError):
        client.run_here(object())
    assert traced.traces.one("send tasks.run").failed
    with traced.tracer.start_as_current_span("next"):
        pass
    assert traced.traces.path("next") == ["next"]  # the instrumentation's own span is not left as the current one


@pytest.mark.services
@pytest.mark.filterwarnings("ignore:.*setex.*:DeprecationWarning")
async def test_each_message_of_a_batch_has_a_span_until_the_batch_is_sent(container, traced, redis_url, monkeypatch):
    ended: list[int] = []
    send = RedisBatch.send

    def counted(batch: RedisBatch) -> list[Exception | None]:
        outcomes = send(batch)
        ended.append(len(traced.traces.names))
        return outcomes

    monkeypatch.setattr(RedisBatch, "send", counted)
    app = Celery("tests", broker=redis_url, backend="disabled://", set_as_current=False)
    client = container(Client, overrides={Celery: app}).get(Client)
    await client.run(-1)
    before = len(traced.traces.names)
    ended.clear()

    async def request(number: int) -> None:
        with traced.tracer.start_as_current_span(f"request {number}"):
            await client.run(number)

    with monkeypatch.context() as patched:
        # The instrumentation listens for what is published, and what others listen for goes alone.
        patched.setattr(signals.after_task_publish, "receivers", [])
        await asyncio.gather(*map(request, range(5)))
    app.close()
    spans = traced.traces.spans
    requests = {span.id: span for span in spans if span.name.startswith("request ")}
    sending = [span for span in spans if span.parent in requests]
    assert len(ended) < 5
    assert ended[0] - before <= 5  # the instrumentation's own, which have ended before
    assert len(requests) == len(sending) == len({span.trace for span in sending}) == 5
    assert all(requests[span.parent].trace == span.trace for span in sending)


def test_nothing_is_done_where_nobody_traces(monkeypatch):
    monkeypatch.setattr(trace, "get_tracer_provider", trace.ProxyTracerProvider)
    untraced = span_of_sending("tasks.run")
    assert span_of_sending("tasks.other") is untraced
    monkeypatch.setattr(trace, "get_tracer_provider", TracerProvider)
    assert span_of_sending("tasks.run") is not untraced
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    assert span_of_sending("tasks.run") is untraced
