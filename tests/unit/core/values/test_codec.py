"""Values of every declared type survive JSON, and what would not is refused."""

import enum
import json
import pickle
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypeVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kombu.utils.json import dumps, loads
from pydantic import BaseModel, Field, SecretStr
from typing_extensions import TypedDict

from pico_celery_core.values import codec as module
from pico_celery_core.values.codec import Codec, LossyError, MisfitError, codec_of, is_plain, is_resolved, shown

T = TypeVar("T")
OrderId = NewType("OrderId", int)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


@dataclass
class Point:
    x: float
    y: float = 0.0
    tags: set[str] = field(default_factory=set)


class Pair(NamedTuple):
    first: int
    second: str


class Address(TypedDict):
    street: str
    since: date


class Parcel(BaseModel):
    weight: Annotated[float, Field(gt=0)]
    colour: Colour = Colour.RED
    nested: list["Parcel"] = []
    renamed: int = Field(default=0, alias="in")


class Box(BaseModel, Generic[T]):
    content: T


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: str


class ByIdentity:
    pass


VALUES: list[tuple[Any, Any]] = [
    (int, 7),
    (float, 1.5),
    (float, 2),
    (str, "text"),
    (bool, True),
    (int | None, None),
    (Colour, Colour.BLUE),
    (Level, Level.LOW),
    (set[int], {1, 2}),
    (frozenset[str], frozenset({"a"})),
    (tuple[int, str], (1, "a")),
    (tuple[int, ...], (1, 2, 3)),
    (timedelta, timedelta(days=1, milliseconds=3)),
    (Path, Path("some/where")),
    (UUID, UUID(int=5)),
    (Decimal, Decimal("1.10")),
    (datetime, datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)),
    (date, date(2026, 1, 2)),
    (time, time(3, 4)),
    (Point, Point(1, 2, {"a"})),
    (Pair, Pair(1, "b")),
    (Address, {"street": "Main", "since": date(2026, 1, 2)}),
    (Parcel, Parcel(weight=2, nested=[Parcel(weight=1)], **{"in": 4})),
    (list[Parcel], [Parcel(weight=2)]),
    (dict[str, Parcel], {"a": Parcel(weight=2)}),
    (dict[int, Point], {1: Point(1)}),
    (dict[date, int], {date(2026, 1, 2): 1}),
    (Mapping[str, set[int]], {"a": {1}}),
    (Sequence[timedelta], [timedelta(1)]),
    (Box[Point], Box[Point](content=Point(1))),
    (Cat | Dog, Dog(name="Rex")),
    (Annotated[Cat | Dog, Field(discriminator="kind")], Cat(lives=9)),
    (int | str, "7"),
    (int | str, 7),
    (Literal["a", 1], 1),
    (OrderId, OrderId(4)),
    (Annotated[int, Field(gt=1)], 2),
    (Point | None, Point(1)),
    (bytes, b"plain"),
    (list[datetime | None], [None, datetime(2026, 1, 2, tzinfo=UTC)]),
    (OrderedDict[str, int], OrderedDict(a=1)),
]


def through_json(value: Any) -> Any:
    return loads(dumps(value))


@pytest.mark.parametrize(("annotation", "value"), VALUES, ids=str)
def test_a_value_arrives_as_it_was_sent(annotation, value):
    codec = codec_of(annotation)
    assert codec is not None
    arrived = codec.load(through_json(codec.dump(value)))
    assert (type(arrived), arrived) == (type(value), value)


@pytest.mark.parametrize(("annotation", "value"), VALUES, ids=str)
def test_a_value_that_is_already_one_is_taken_as_it_is(annotation, value):
    codec = codec_of(annotation)
    assert codec is not None
    assert codec.load(value) == value


@pytest.mark.parametrize("annotation", [Any, object, None, type(None), dict, list, T, ByIdentity, "Unknown"])
def test_what_says_nothing_of_its_values_has_no_codec(annotation):
    assert codec_of(annotation) is None


@pytest.mark.parametrize("value", [datetime(2026, 1, 2, tzinfo=UTC), date(2026, 1, 2), UUID(int=5), Decimal("1.1")])
def test_what_celerys_json_carries_goes_as_it_is(value):
    assert Codec(type(value)).dump(value) is value
    assert Codec(list[type(value)]).dump([value]) == [value]  # type: ignore[misc]


def test_plain_json_is_what_other_programs_read():
    parcel = Parcel(weight=2, nested=[Parcel(weight=1)])
    assert json.loads(json.dumps(Codec(Parcel).dump(parcel))) == {
        "weight": 2.0,
        "colour": "red",
        "nested": [{"weight": 1.0, "colour": "red", "nested": [], "in": 0}],
        "in": 0,
    }


@pytest.mark.parametrize(
    ("annotation", "value", "problem"),
    [
        (int, "seven", "valid integer"),
        (int, None, "valid integer"),
        (str, 7, "valid string"),
        (list[Parcel], [{"weight": 1}, {"weight": 0}], r"^\[1\]\.weight: Input should be greater than 0"),
        (dict[str, Point], {"a": {"x": "far"}}, r"^a\.x: "),
        (Colour, "green", r"'red' or 'blue' \(expected Colour\)"),
        (tuple[int, str], [1], "Field required"),
        (Annotated[int, Field(gt=1)], 1, "greater than 1"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_path(annotation, value, problem):
    for convert in (Codec(annotation).load, Codec(annotation).dump):
        with pytest.raises(MisfitError, match=problem):
            convert(value)


def test_of_many_problems_the_first_are_told():
    with pytest.raises(MisfitError, match="and 7 more"):
        Codec(list[int]).load(["x"] * 10)


def test_nothing_is_said_of_a_sensitive_value():
    with pytest.raises(MisfitError, match=r"^does not fit \(expected dict\[str, int\]\)$"):
        Codec(dict[str, int]).load({"s3cret": "x"}, is_sensitive=True)
    with pytest.raises(MisfitError) as raised:
        Codec(Literal["a"]).load("s3cret", is_sensitive=True)
    assert str(raised.value) == "does not fit (expected Literal['a'])"
    assert raised.value.__cause__ is None


def test_a_validators_own_error_is_told_without_line_breaks():
    class Broken(BaseModel):
        x: int

        def __init__(self, **_: Any) -> None:
            raise OSError("one\ntwo")

    with pytest.raises(MisfitError, match=r"OSError: one\\ntwo"):
        Codec(Annotated[Broken, Field(default=None)]).load({"x": 1})


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (SecretStr, SecretStr("s3cret")),
        (list[SecretStr], [SecretStr("s3cret")]),
        (bytes, b"\xff"),
        (dict[tuple[int, int], int], {(1, 2): 3}),
        (Path | str, Path("x")),
        (Level | int, Level.LOW),
        (list[Level | int], [1, Level.LOW]),
        (dict[str, Pair | tuple[int, str]], {"a": (1, "b")}),
        (set[int] | frozenset[int], frozenset({1})),
        (Box[Level | int], Box[Level | int](content=Level.LOW)),
    ],
    ids=str,
)
def test_what_json_would_not_give_back_is_refused(annotation, value):
    with pytest.raises(LossyError):
        Codec(annotation).dump(value)


def test_a_codec_is_made_once_and_can_be_pickled():
    assert codec_of(list[Parcel]) is codec_of(list[Parcel])
    assert pickle.loads(pickle.dumps(codec_of(list[Parcel]))) is codec_of(list[Parcel])


def test_without_pydantic_there_are_none(monkeypatch):
    monkeypatch.setattr(module, "has_pydantic", lambda: False)
    assert module._made(set[int]) is None


def test_names():
    assert [shown(annotation) for annotation in (Parcel, list[int], Annotated[int, "x"])] == [
        "Parcel",
        "list[int]",
        "int",
    ]
    assert is_plain(dict[str, list[int | None]])
    assert not is_plain(dict[int, int])
    assert not is_resolved(list["Unknown"])  # type: ignore[name-defined]  # noqa: F821
    assert is_resolved(Literal["text"])


SCALARS = [
    (int, st.integers()),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (str, st.text()),
    (bool, st.booleans()),
    (timedelta, st.timedeltas(min_value=timedelta(days=-9999), max_value=timedelta(days=9999))),
    (datetime, st.datetimes()),
    (UUID, st.uuids()),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False, places=4)),
    (Colour, st.sampled_from(Colour)),
]


def nested(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        children.map(lambda of: (list[of[0]], st.lists(of[1], max_size=3))),
        children.map(lambda of: (tuple[of[0], ...], st.lists(of[1], max_size=3).map(tuple))),
        children.map(lambda of: (dict[str, of[0]], st.dictionaries(st.text(), of[1], max_size=3))),
        children.map(lambda of: (of[0] | None, st.none() | of[1])),
        children.map(lambda of: (Box[of[0]], of[1].map(lambda value: Box[of[0]](content=value)))),
    )


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.recursive(st.sampled_from(SCALARS), nested, max_leaves=4), st.data())
def test_generated_values_of_generated_types_arrive_as_they_were_sent(generated, data):
    annotation, values = generated
    value = data.draw(values)
    codec = Codec(annotation)
    assert codec.load(through_json(codec.dump(value))) == value
