"""Tasks that send tasks and wait for them, through clients that the container injects."""

import asyncio
import enum
import os
import sys
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

from celery import Celery, current_task
from pico_ioc import DictSource, component, configuration, init
from pydantic import BaseModel

from pico_celery import (
    CeleryClient,
    ContextVariableInterceptor,
    Sensitive,
    TaskContext,
    celery,
    gather_results,
    send_task,
    task,
)

tenant: ContextVar[str] = ContextVar("tenant", default="nobody's")


@component
class Tenant(ContextVariableInterceptor):
    def __init__(self) -> None:
        super().__init__(tenant, "x-tenant")


class Order(BaseModel):
    id: int
    lines: list[str]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Parcel:
    weight: Decimal
    colours: set[Colour]


class Receipt(BaseModel):
    parcels: list[Parcel]
    arrives: dict[str, timedelta]


@celery
class Client(CeleryClient):
    @send_task("sending.parent")
    async def parent(self, count: int) -> dict[str, Any]: ...

    @send_task("sending.child")
    async def child(self, number: int) -> dict[str, Any]: ...

    @send_task("sending.total")
    async def total(self, order: Order) -> dict[str, Any]: ...

    @send_task("sending.login")
    async def login(self, user: str, password: Annotated[str, Sensitive], how: str) -> str: ...

    @send_task("sending.build")
    def build(self, steps: int) -> str: ...


@component(scope="prototype")
class Tasks:
    def __init__(self, client: Client, context: TaskContext) -> None:
        self.client = client
        self.context = context

    @task("sending.parent")
    async def parent(self, count: int) -> dict[str, Any]:
        """Send tasks, and wait for them on the loop that all of them run on."""
        results = await asyncio.gather(*(self.client.child(number) for number in range(count)))
        return {
            "id": self.context.id,
            "children": await gather_results(*results),
            "known to celery": sorted(result.id for result in current_task.request.children),
        }

    @task("sending.child")
    async def child(self, number: int) -> dict[str, Any]:
        context = self.context
        origin = {"parent": context.parent_id, "root": context.root_id, "tenant": tenant.get()}
        return {"number": number, "id": context.id, **origin}

    @task("sending.ship")
    async def ship(self, parcel: Parcel, pause: timedelta, *copies: Parcel) -> Receipt:
        assert type(parcel.weight) is Decimal
        assert type(pause) is timedelta
        return Receipt(parcels=[parcel, *copies], arrives={self.context.id: 2 * pause})

    @task("sending.total", pydantic=True)
    async def total(self, order: Order) -> Order:
        assert isinstance(order, Order)
        return Order(id=order.id, lines=[*order.lines, "total"])

    @task("sending.login", max_retries=1, default_retry_delay=0)
    async def login(self, user: str, password: str, how: str) -> str:
        if not self.context.retries and how == "as it was":
            self.context.retry(countdown=0)
        if not self.context.retries and how == "other arguments":
            self.context.retry(countdown=0, args=[user, f"{password}-again", how], kwargs={})
        return password

    @task("sending.autoretried", autoretry_for=(LookupError,), max_retries=1, default_retry_delay=0)
    async def autoretried(self, password: str) -> str:
        if not self.context.retries:
            raise LookupError("not yet")
        return password

    @task("sending.build")
    async def build(self, steps: int) -> str:
        for step in range(steps):
            await self.context.progress(step, steps, "building")
        return "built"


settings = {
    "broker_url": os.environ.get("TEST_BROKER_URL", "memory://"),
    "backend_url": os.environ.get("TEST_BACKEND_URL", "cache+memory://"),
    "task_default_queue": os.environ.get("TEST_QUEUE", "celery"),
}
container = init(modules=["pico_celery", sys.modules[__name__]], config=configuration(DictSource({"celery": settings})))
app = container.get(Celery)
