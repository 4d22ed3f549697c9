"""The arguments of a call and of a message, each by its parameter's annotation."""

import enum
import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from pico_celery_core.sensitive import Sensitive
from pico_celery_core.values.arguments import ArgumentCodecs, ArgumentError


class Colour(enum.Enum):
    RED = "red"


class Parcel(BaseModel):
    weight: float


def codecs_of(function: Callable[..., Any], *sensitive: str) -> ArgumentCodecs:
    return ArgumentCodecs(inspect.signature(function), sensitive)


def every_kind(
    a: timedelta, /, b: Colour, *rest: timedelta, c: Parcel | None = None, plain: Any = 1, **other: Colour
): ...


def test_each_argument_goes_by_its_parameter():
    codecs = codecs_of(every_kind)
    hour = timedelta(hours=1)
    args, kwargs = (hour, Colour.RED, hour), {"c": Parcel(weight=1), "plain": {1}, "more": Colour.RED}
    dumped = codecs.dump(args, kwargs)
    assert dumped == (("PT1H", "red", "PT1H"), {"c": {"weight": 1.0}, "plain": {1}, "more": "red"})
    assert codecs.load(*dumped) == (args, kwargs)


def test_arguments_by_name():
    assert codecs_of(every_kind).load(("PT1H",), {"b": "red"}) == ((timedelta(hours=1),), {"b": Colour.RED})


def test_what_fits_no_parameter_stays_as_it_is():
    def one(a: Colour): ...

    assert codecs_of(one).load(("red", "more"), {"other": {1}}) == ((Colour.RED, "more"), {"other": {1}})


def test_a_default_need_not_fit():
    def one(a: int = None, b: Colour = ""): ...  # type: ignore[assignment]  # noqa: RUF013

    assert codecs_of(one).dump((None,), {"b": ""}) == ((None,), {"b": ""})
    with pytest.raises(ArgumentError):
        codecs_of(one).dump((), {"b": None})


def test_an_argument_that_does_not_fit_is_named():
    with pytest.raises(ArgumentError) as raised:
        codecs_of(every_kind).load((timedelta(1), "red"), {"c": {"weight": "heavy"}})
    assert raised.value.argument == "c"
    assert raised.value.problem.startswith("weight: Input should be a valid number")


def test_a_sensitive_argument_is_not_shown():
    def one(pin: Annotated[int, Sensitive], **others: Annotated[int, Sensitive]): ...

    for args, kwargs in ((("s3cret",), {}), ((1,), {"more": "s3cret"})):
        with pytest.raises(ArgumentError, match="does not fit") as raised:
            codecs_of(one, "pin", "others").load(args, kwargs)
        assert "s3cret" not in raised.value.problem


def test_an_argument_that_is_left_open_is_left_alone():
    left_open = object()
    assert codecs_of(every_kind).dump((left_open, Colour.RED), {"c": left_open}, left_open) == (
        (left_open, "red"),
        {"c": left_open},
    )


def test_without_annotations_there_is_nothing_to_do():
    def one(a, b: Any, c: dict = 1): ...  # type: ignore[type-arg,assignment]

    codecs = codecs_of(one)
    assert not codecs.has_any
    assert codecs.dump(({1}, 2), {"c": 3}) == (({1}, 2), {"c": 3})
