"""An annotation that says a type which values do not get is told, wherever its name is missing."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypedDict

import pytest
from pydantic import BaseModel

from pico_celery_core.values import untyped as module
from pico_celery_core.values.untyped import untyped_annotations

if TYPE_CHECKING:
    from decimal import Decimal as Money


class Priced(BaseModel):
    price: Money


@dataclass
class Sold:
    price: Money


class Paid(NamedTuple):
    price: Money


class Old(TypedDict):
    price: int


class Plain:
    """What pydantic knows nothing of."""


class Methods:
    class Parcel(BaseModel):
        weight: float
        inner: Methods.Inner | None = None

    class Inner(BaseModel):
        weight: float

    async def good(self, parcel: Parcel, inner: Inner, *more: int, plain: Plain | None = None, **other: Any) -> Parcel:
        raise NotImplementedError

    async def bound(self, task: Money, parcel: Parcel) -> None: ...

    async def named(self, price: Money) -> None: ...

    async def quoted(self, prices: list[Money]) -> None: ...

    async def constrained(self, price: Annotated[Money, "of one"]) -> None: ...

    async def given(self, *prices: Money) -> None: ...

    async def returned(self) -> Money | None: ...

    async def model(self, priced: Priced) -> None: ...

    async def models(self, priced: list[Priced]) -> None: ...

    async def data(self, sold: Sold | None) -> None: ...

    async def tuples(self) -> dict[str, Paid]:
        raise NotImplementedError

    async def old(self, old: Old) -> None: ...


def told(method: str, **options: bool) -> list[tuple[str, bool]]:
    found = untyped_annotations(getattr(Methods, method), "pico-celery-client", **options)
    return [(str(untyped), untyped.is_fatal) for untyped in found]


def test_names_that_are_found_say_nothing():
    assert told("good") == told("bound", bound=True) == []


@pytest.mark.parametrize("method", ["named", "quoted", "constrained", "given", "returned"])
def test_a_name_that_is_not_there_at_run_time_is_told(method):
    ((text, is_fatal),) = told(method)
    assert "Money" in text
    assert "cannot be evaluated: name 'Money' is not defined. Values there stay as JSON has them. Import" in text
    assert not is_fatal


@pytest.mark.parametrize("method", ["model", "models", "data", "tuples"])
def test_a_name_that_is_missing_in_a_class_is_told_as_no_value_fits(method):
    ((text, is_fatal),) = told(method)
    assert "cannot be used: a class in it has an annotation with the name 'Money', which is not defined" in text
    assert is_fatal


def test_a_class_in_a_function_is_told():
    class Local(BaseModel):
        x: int

    class Handlers:
        async def run(self, local: Local) -> None: ...

    (untyped,) = untyped_annotations(Handlers.run, "pico-celery-worker")
    assert "'Local' is not defined" in untyped.problem


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="pydantic takes it there")
def test_a_typed_dict_that_pydantic_refuses_is_told():
    ((text, is_fatal),) = told("old")
    assert text.endswith("stay as JSON has them. Take that of typing_extensions.")
    assert not is_fatal


def test_without_pydantic_each_type_that_needs_it_is_told(monkeypatch):
    monkeypatch.setattr(module, "has_pydantic", lambda: False)
    assert [text for text, _ in told("good")] == [
        f"{what} needs pydantic. Values there stay as JSON has them. Install pydantic, as with "
        "pico-celery-client[pydantic]."
        for what in (
            "The annotation of its parameter 'parcel', Methods.Parcel,",
            "The annotation of its parameter 'inner', Methods.Inner,",
            "The annotation of its parameter 'plain', Plain | None,",
            "Its return annotation, Methods.Parcel,",
        )
    ]
