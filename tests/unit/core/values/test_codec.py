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
from pydantic import BaseModel, Field, SecretStr, TypeAdapter
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


@pytest.mark.parametrize("annotation", [int, float, str, bool, int | None, list[int] | None, int | str, datetime | str])
def test_a_plain_value_is_not_looked_at_closely(annotation):
    codec = Codec(annotation)
    for value in (None, 7, "7", True, 1.5):
        if type(value) in codec.exact:
            assert codec.load(value) is codec.dump(value) is value
            # A float may be an int; all else is what pydantic would make of it.
            assert TypeAdapter(annotation).validate_python(value) == value
    assert codec.exact


@pytest.mark.parametrize("annotation", [Annotated[int, Field(gt=1)], Annotated[int, Field(gt=1)] | None, Colour | str])
def test_a_value_with_constraints_is(annotation):
    assert Codec(annotation).exact == ()


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
        (Sequence[float], [float("inf")]),
        (Point, Point(float("nan"))),
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


# Each with what JSON makes of its values: values of a union have to differ there.
SCALARS = [
    (int, st.integers(), "number"),
    (float, st.floats(allow_nan=False, allow_infinity=False), "number"),
    (str, st.text(), "text"),
    (bool, st.booleans(), "bool"),
    (timedelta, st.timedeltas(min_value=timedelta(days=-9999), max_value=timedelta(days=9999)), "text"),
    (datetime, st.datetimes(timezones=st.none() | st.just(UTC)), "text"),
    (date, st.dates(), "text"),
    (UUID, st.uuids(), "text"),
    (Path, st.lists(st.text("ab/.", min_size=1), min_size=1, max_size=3).map(lambda parts: Path(*parts)), "text"),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False, places=4), "text"),
    (Colour, st.sampled_from(Colour), "text"),
    (Level, st.sampled_from(Level), "number"),
    (Literal["a", "b"], st.sampled_from("ab"), "text"),
    (OrderId, st.integers(), "number"),
    (Annotated[int, Field(gt=1)], st.integers(min_value=2), "number"),
    (
        Point,
        st.builds(Point, st.floats(allow_nan=False, allow_infinity=False), st.floats(-1, 1), st.sets(st.text())),
        "object",
    ),
    (Address, st.fixed_dictionaries({"street": st.text(), "since": st.dates()}), "object"),
    (Pair, st.builds(Pair, st.integers(), st.text()), "array"),
    (
        Parcel,
        st.builds(Parcel, weight=st.floats(1, 9), colour=st.sampled_from(Colour)).map(
            lambda parcel: Parcel(weight=1, nested=[parcel])
        ),
        "object",
    ),
]
KEYS = [of for of in SCALARS if of[0] in (str, int, date, UUID, Decimal, Colour)]
HASHABLE = [of for of in SCALARS if of[2] != "object"]

Generated = tuple[Any, st.SearchStrategy[Any], str]


@dataclass
class Holder(Generic[T]):
    held: T
    more: dict[str, T]


def held(of: Generated) -> Generated:
    values = of[1]
    return Holder[of[0]], st.builds(Holder, values, st.dictionaries(st.text(), values, max_size=2)), "object"


def union(one: Generated, other: Generated) -> Generated:
    """Return a union whose values JSON can tell apart, or else an optional one."""
    if one[2] == other[2] or {one[2], other[2]} & {"null", "union"} or {one[2], other[2]} == {"number", "bool"}:
        return one[0] | None, st.none() | one[1], "union"
    return one[0] | other[0], one[1] | other[1], "union"


def nested(children: st.SearchStrategy[Generated]) -> st.SearchStrategy[Generated]:
    hashable, keys = st.sampled_from(HASHABLE), st.sampled_from(KEYS)
    return st.one_of(
        children.map(lambda of: (list[of[0]], st.lists(of[1], max_size=3), "array")),
        children.map(lambda of: (Sequence[of[0]], st.lists(of[1], max_size=3), "array")),
        children.map(lambda of: (tuple[of[0], ...], st.lists(of[1], max_size=3).map(tuple), "array")),
        st.tuples(children, children).map(
            lambda of: (tuple[of[0][0], of[1][0]], st.tuples(of[0][1], of[1][1]), "array")
        ),
        hashable.map(lambda of: (set[of[0]], st.sets(of[1], max_size=3), "array")),
        hashable.map(lambda of: (frozenset[of[0]], st.frozensets(of[1], max_size=3), "array")),
        st.tuples(keys, children).map(
            lambda of: (dict[of[0][0], of[1][0]], st.dictionaries(of[0][1], of[1][1], max_size=3), "object")
        ),
        st.tuples(children, children).map(lambda of: union(*of)),
        children.map(lambda of: (Annotated[of[0], "told"], *of[1:])),
        children.map(lambda of: (Box[of[0]], of[1].map(lambda value: Box[of[0]](content=value)), "object")),
        children.map(held),
    )


def types_of(value: Any) -> Any:
    """Return the types in a value, at every depth."""
    if isinstance(value, dict):
        return type(value), sorted(repr((key, types_of(each))) for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return type(value), [types_of(each) for each in value]
    if isinstance(value, (set, frozenset)):
        return type(value), sorted(map(repr, map(type, value)))
    if isinstance(value, (BaseModel, Point, Holder)):
        return type(value), types_of(vars(value))
    return type(value)


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.recursive(st.sampled_from(SCALARS), nested, max_leaves=5), st.data())
def test_generated_values_of_generated_types_arrive_as_they_were_sent(generated, data):
    annotation, values, _ = generated
    value = data.draw(values)
    codec = Codec(annotation)
    arrived = codec.load(through_json(codec.dump(value)))
    assert arrived == value
    assert repr(types_of(arrived)) == repr(types_of(value))
