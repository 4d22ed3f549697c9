"""What a sender means by an annotation may or may not arrive where a receiver means another."""

import enum
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, NewType, Optional, Protocol, TypedDict, TypeVar

import pytest

from pico_celery_core.contract.annotations import accepts

UserId = NewType("UserId", int)
T = TypeVar("T")


class Order(TypedDict):
    number: int


class Color(enum.StrEnum):
    RED = "red"


class Speaks(Protocol):
    def speak(self) -> None: ...


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        (int, int),
        (float, int),
        (int, bool),
        (int | None, int),
        (Optional[int], None),  # noqa: UP045  # people write both
        (object, int),
        (Any, int),
        (int, Any),
        (int, UserId),
        (UserId, int),
        (Annotated[int, "cents"], int),
        (str, Literal["a", "b"]),
        (str, Color),
        (Color, str),
        (dict, Order),
        (Order, dict[str, int]),
        (Mapping[str, int], dict[str, int]),
        (list[int], tuple[int, ...]),
        (Sequence[int], list[int]),
        (Iterable[str], set[str]),
        (list, list[int]),
        (list[int], list),
        (list[float], list[int]),
        (T, int),
        ("Unknown", int),
        (Callable[[], int], Callable[[], int]),
        (Speaks, int),
    ],
)
def test_what_fits_and_what_nobody_can_know_is_accepted(wanted, given):
    assert accepts(wanted, given)


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        (int, str),
        (int, float),
        (int, None),
        (int, int | None),
        (str, bytes),
        (str, list[str]),
        (list[str], str),
        (list[int], list[str]),
        (dict[str, int], dict[str, str]),
        (dict, list),
        (datetime, str),
        (int | str, dict),
        (int, Literal["a"]),
    ],
)
def test_what_does_not_fit_is_not_accepted(wanted, given):
    assert not accepts(wanted, given)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type aliases of their own kind came with Python 3.12")
def test_a_type_alias_means_what_it_stands_for():
    namespace: dict[str, Any] = {}
    exec("type Number = int", namespace)

    assert accepts(int, namespace["Number"])
    assert not accepts(str, namespace["Number"])
