"""Spans: those of this process, and a collector for those that others send over HTTP."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Span(NamedTuple):
    """What is asked of a span."""

    name: str
    trace: int
    id: int
    parent: int
    start: int
    end: int
    failed: bool


class Traces:
    """Spans that have ended, of one process or of several."""

    def __init__(self, *spans: Span) -> None:
        self._of_ids = {span.id: span for span in spans}

    def __add__(self, other: "Traces") -> "Traces":
        return Traces(*self.spans, *other.spans)

    @property
    def spans(self) -> list[Span]:
        return list(self._of_ids.values())

    @property
    def names(self) -> list[str]:
        return sorted(span.name for span in self.spans)

    def one(self, name: str) -> Span:
        """Return the only span of a name."""
        [span] = [span for span in self.spans if span.name == name]
        return span

    def path(self, name: str) -> list[str]:
        """Return the names from the root of a trace down to a span."""
        span: Span | None = self.one(name)
        found: list[str] = []
        while span is not None:
            found.insert(0, span.name)
            if span.parent and span.parent not in self._of_ids:
                found.insert(0, "?")
            span = self._of_ids.get(span.parent)
        return found


class Tracing:
    """Traces this process. Its provider is the global one as far as what is tested asks for it."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("tests")

    @property
    def traces(self) -> Traces:
        return Traces(*map(_span, self._exporter.get_finished_spans()))


def _span(span: Any) -> Span:
    return Span(
        span.name,
        span.context.trace_id,
        span.context.span_id,
        span.parent.span_id if span.parent else 0,
        span.start_time,
        span.end_time,
        not span.status.is_ok,
    )


@contextmanager
def tracing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tracing]:
    """Trace this process, by the real SDK, with Celery instrumented."""
    traced = Tracing()
    # The SDK lets it be set but once in a process.
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: traced.provider)
    CeleryInstrumentor().instrument(tracer_provider=traced.provider)
    try:
        yield traced
    finally:
        CeleryInstrumentor().uninstrument()
        traced.provider.shutdown()


class Collector:
    """Takes spans over HTTP, as an OpenTelemetry collector does."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._spans: list[Span] = []

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self._spans.extend(map(_received, scope.spans))

    @property
    def traces(self) -> Traces:
        return Traces(*self._spans)


def _received(span: Any) -> Span:
    trace_id, span_id, parent = (int.from_bytes(i) for i in (span.trace_id, span.span_id, span.parent_span_id))
    times = span.start_time_unix_nano, span.end_time_unix_nano
    return Span(span.name, trace_id, span_id, parent, *times, span.status.code == span.status.STATUS_CODE_ERROR)


@contextmanager
def collector() -> Iterator[Collector]:
    """Serve a collector on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collecting.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collecting = Collector(f"http://127.0.0.1:{server.server_port}/v1/traces")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield collecting
        finally:
            server.shutdown()
            thread.join()
