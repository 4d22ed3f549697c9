"""Tasks whose worker is traced, and sends its spans over HTTP."""

import asyncio
import os
from typing import Any

from celery import Celery, signals
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from pico_ioc import DictSource, component, configuration, init

from pico_celery import CeleryClient, TaskContext, TaskResult, celery, run_blocking, send_task, task

tracer = trace.get_tracer("shop")


def blocking(number: int) -> int:
    with tracer.start_as_current_span(f"blocking {number}"):
        return number


async def child(number: int) -> None:
    with tracer.start_as_current_span(f"child {number}"):
        await asyncio.sleep(0)


@celery
class Leaves(CeleryClient):
    @send_task("traced.leaf")
    async def leaf(self, number: int) -> int: ...


@component(scope="prototype")
class TracedTasks:
    def __init__(self, context: TaskContext, leaves: Leaves) -> None:
        self.context = context
        self.leaves = leaves

    @task("traced.work")
    async def work(self, number: int) -> int:
        with tracer.start_as_current_span(f"handler {number}"):
            await asyncio.gather(child(number), run_blocking(blocking, number))
        return number

    @task("traced.leaf")
    async def leaf(self, number: int) -> int:
        with tracer.start_as_current_span(f"leaf {number}"):
            return number

    @task("traced.send")
    async def send(self, number: int) -> str:
        with tracer.start_as_current_span(f"handler {number}"):
            result: TaskResult[Any] = await self.leaves.leaf(number)
        return result.id

    @task("traced.retry", max_retries=1)
    async def retry(self, number: int) -> int:
        with tracer.start_as_current_span(f"try {self.context.retries} of {number}"):
            await asyncio.sleep(0)
        if not self.context.retries:
            self.context.retry(countdown=0)
        return number

    @task("traced.fail")
    async def fail(self, number: int) -> None:
        raise LookupError(number)


@signals.worker_init.connect(weak=False)
def trace_this_worker(**_: Any) -> None:
    provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(os.environ["TEST_COLLECTOR"])))
    trace.set_tracer_provider(provider)
    CeleryInstrumentor().instrument()


@signals.worker_process_shutdown.connect(weak=False)
def export_the_rest(**_: Any) -> None:
    """Prefork's processes end without what Python does at its exit."""
    trace.get_tracer_provider().shutdown()


settings = {"broker_url": os.environ["TEST_BROKER_URL"], "backend_url": os.environ["TEST_BACKEND_URL"]}
container = init(modules=["pico_celery", __name__], config=configuration(DictSource({"celery": settings})))
app = container.get(Celery)
