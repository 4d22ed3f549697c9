"""A client and handlers whose arguments, values and progress are of all kinds of types."""

import enum
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Generic, NamedTuple, TypeVar
from uuid import UUID

from celery import Celery
from kombu import Queue
from pico_ioc import DictSource, component, configuration, init
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from pico_celery import CeleryClient, TaskContext, celery, send_task, task

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Place(NamedTuple):
    x: float
    y: float


class Address(TypedDict):
    street: str
    since: date


class Box(BaseModel, Generic[T]):
    content: T


class Cat(BaseModel):
    lives: int


class Dog(BaseModel):
    name: str


@dataclass
class Parcel:
    """One of everything."""

    weight: Decimal
    colours: set[Colour]
    fixed: frozenset[int]
    place: Place
    address: Address
    takes: timedelta
    sent: datetime
    path: Path
    ident: UUID
    boxes: dict[int, Box[tuple[int, str]]]
    animal: Cat | Dog
    count: Annotated[int, Field(gt=0)]
    inner: "Parcel | None" = None


def parcel(inner: Parcel | None = None) -> Parcel:
    """Return a parcel with everything in it."""
    return Parcel(
        weight=Decimal("1.50"),
        colours={Colour.RED, Colour.BLUE},
        fixed=frozenset({1, 2}),
        place=Place(1.5, -2),
        address={"street": "Main", "since": date(2026, 1, 2)},
        takes=timedelta(days=1, seconds=3, microseconds=5),
        sent=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        path=Path("some/where"),
        ident=UUID(int=7),
        boxes={1: Box[tuple[int, str]](content=(1, "a"))},
        animal=Dog(name="Rex"),
        count=1,
        inner=inner,
    )


@celery
class ParcelClient(CeleryClient):
    @send_task("values.ship")
    async def ship(
        self, parcel: Parcel, *colours: Colour, options: Mapping[str, set[int]], **others: timedelta
    ) -> tuple[Parcel, list[Colour], dict[str, timedelta]]: ...

    @send_task("values.weigh")
    async def weigh(self, parcel: dict[str, int]) -> Decimal: ...


@component(scope="prototype")
class ParcelTasks:
    def __init__(self, context: TaskContext) -> None:
        self.context = context

    @task("values.ship")
    async def ship(
        self, parcel: Parcel, *colours: Colour, options: Mapping[str, set[int]], **others: timedelta
    ) -> tuple[Parcel, list[Colour], dict[str, timedelta]]:
        assert options == {"a": {1, 2}}
        await self.context.progress(1, 2, details=parcel)
        return parcel, [*colours], others

    @task("values.weigh")
    async def weigh(self, parcel: Parcel) -> Decimal:
        return parcel.weight


def settings(broker: str, backend: str, queue: str) -> dict[str, object]:
    """Return the settings of a client or a worker."""
    return {
        "broker_url": broker,
        "backend_url": backend,
        "task_default_queue": queue,
        "pico_dead_letters_queue": f"{queue}-dead",
        "task_queues": [Queue(queue, routing_key=queue)],
    }


if "TEST_BROKER_URL" in os.environ:
    _settings = settings(os.environ["TEST_BROKER_URL"], os.environ["TEST_BACKEND_URL"], os.environ["TEST_QUEUE"])
    container = init(modules=["pico_celery", __name__], config=configuration(DictSource({"celery": _settings})))
    app = container.get(Celery)
