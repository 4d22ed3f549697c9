"""What a client sends, held against what a handler takes, by their JSON schemas."""

import enum
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, create_model

from pico_celery_core.values.schemas import misfit, schema_of


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Fewer(enum.Enum):
    RED = "red"


class Node(BaseModel):
    name: str
    children: list["Node"] = []


class Renamed(BaseModel):
    title: str
    children: list["Renamed"] = []


@dataclass
class Point:
    x: int


def model(**fields: Any) -> Any:
    return create_model("Order", **fields)


def problem(sent: Any, taken: Any) -> str:
    one, other = schema_of(sent, "serialization"), schema_of(taken, "validation")
    assert one is not None
    assert other is not None
    return misfit(one, other)


@pytest.mark.parametrize("annotation", [int, str, list[int], dict[str, int], Any, None, "Unknown"])
def test_what_travels_as_it_is_has_no_schema(annotation):
    assert schema_of(annotation, "validation") is None


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        (Node, Node),
        (model(id=(int, ...)), model(id=(int, ...), note=(str, "none"))),
        (model(id=(int, ...), old=(str, ...)), model(id=(int, ...))),
        (model(id=(int, ...)), model(id=(int | None, ...))),
        (model(id=(int, ...)), model(id=(float, ...))),
        (model(id=(int, 3)), model(id=(int, ...))),
        (Fewer, Colour),
        (set[Fewer], set[Colour]),
        (Point, model(x=(int, ...))),
        (set[int], tuple[int, ...]),
        (dict[str, Point], dict[str, Point]),
        (tuple[int, Point], tuple[float, Point]),
        (timedelta, timedelta),
        (Node | Point, Node | Point | None),
    ],
)
def test_what_fits(sent, taken):
    assert problem(sent, taken) == ""


@pytest.mark.parametrize(
    ("sent", "taken", "told"),
    [
        (model(id=(int, ...)), model(id=(int, ...), note=(str, ...)), "'note' is required, and is not sent"),
        (model(id=(int, ...)), model(id=(str, ...)), "id: integer is sent, and string is expected"),
        (model(id=(int | None, ...)), model(id=(int, ...)), "id: null is sent, and integer is expected"),
        (Colour, Fewer, "'blue' may be sent, and is not expected"),
        (list[Point], list[Node], "[]: 'name' is required, and is not sent"),
        (dict[str, Point], dict[str, Node], "[]: 'name' is required, and is not sent"),
        (tuple[int, Point], tuple[int, Node], "[1]: 'name' is required, and is not sent"),
        (Node, Renamed, "'title' is required, and is not sent"),
        (model(at=(Point, ...)), model(at=(Node, ...)), "at: 'name' is required, and is not sent"),
        (Point, create_model("Strict", __config__=ConfigDict(extra="forbid"), y=(int, 0)), "'x' is sent, and is not"),
    ],
)
def test_what_does_not(sent, taken, told):
    assert problem(sent, taken).startswith(told)
