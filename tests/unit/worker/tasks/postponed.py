"""Handlers whose annotations are text, with names that are there for type checkers only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pico_ioc import component
from pydantic import BaseModel

from pico_celery import task

if TYPE_CHECKING:
    from celery import Task
    from tests.unit.worker.tasks.elsewhere import Clerk, Receipt
    from tests.unit.worker.tasks.elsewhere import Order as Unseen


class Order(BaseModel):
    number: int


@component(scope="prototype")
class Beside:
    @task("postponed.beside", pydantic=True)
    async def run(self, order: Order, clerk: Clerk | None = None) -> list[str]:
        return [type(order).__name__, type(clerk).__name__]


@component(scope="prototype")
class Returned:
    @task("postponed.returned", pydantic=True)
    async def run(self, order: Order) -> Receipt:
        return type(order).__name__


@component(scope="prototype")
class Model:
    @task("postponed.model", pydantic=True)
    async def run(self, order: Unseen) -> str:
        return type(order).__name__


@component(scope="prototype")
class Within:
    class Parcel(BaseModel):
        number: int

    @task("postponed.within", pydantic=True, bind=True)
    async def run(
        self, task: Task, parcel: Parcel, order: Annotated[Order, "described"], other: Order | None = None
    ) -> Within.Parcel:
        assert type(other) is Order
        return Within.Parcel(number=parcel.number + order.number)


@component(scope="prototype")
class Plain:
    @task("postponed.plain")
    async def run(self, order: Unseen) -> str:
        return type(order).__name__
