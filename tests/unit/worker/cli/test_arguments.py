"""Arguments as they are typed: by position or by name, of the types that the handler declares."""

import inspect
from collections.abc import Callable
from datetime import date, timedelta
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from pico_celery_core.sensitive import Sensitive
from pico_celery_worker.cli import arguments
from pico_celery_worker.cli.arguments import ArgumentsError, described, parsed


class Colour(Enum):
    RED = "red"


class Parcel(BaseModel):
    weight: int


def confirm(order: int, email: str = "", *, urgent: bool = False) -> None: ...


def typed(day: date, before: timedelta, colour: Colour, path: Path, *, parcel: Parcel, numbers: list[int]) -> None: ...


def maybe(text: str | None = "", number: int | None = 0, either: int | str = 0, anything: Any = None) -> None: ...


def bare(one, other=2): ...


def variadic(first: int, *numbers: int, **flags: bool) -> None: ...


def secret(password: Annotated[int, Sensitive]) -> None: ...


def read(function: Callable[..., Any], *words: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return parsed(inspect.signature(function), words)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("7",), ((7,), {})),
        (("7", "ada@shop.example"), ((7, "ada@shop.example"), {})),
        (("7", "--email", "ada@shop.example"), ((7,), {"email": "ada@shop.example"})),
        (("--email=a=b", "--order=7"), ((), {"email": "a=b", "order": 7})),
        (("7", "--email", "--odd"), ((7,), {"email": "--odd"})),
        (("7", "--urgent"), ((7,), {"urgent": True})),
        (("--urgent", "7"), ((7,), {"urgent": True})),
        (("7", "--no-urgent"), ((7,), {"urgent": False})),
        (("7", "--urgent=true"), ((7,), {"urgent": True})),
        (("-7",), ((-7,), {})),
        (("--", "7", "--email"), ((7, "--email"), {})),
        (("7", "12"), ((7, "12"), {})),
        (("7", "null"), ((7, "null"), {})),
    ],
)
def test_words_are_read_by_position_or_by_name(words, expected):
    assert read(confirm, *words) == expected


def test_values_are_of_the_annotated_types():
    words = ["2026-01-02", "PT1H", "red", "7", '--parcel={"weight": 3}', "--numbers", "[1, 2]"]
    assert read(typed, *words) == (
        (date(2026, 1, 2), timedelta(hours=1), Colour.RED, Path("7")),
        {"parcel": Parcel(weight=3), "numbers": [1, 2]},
    )


def test_unions_and_what_has_no_type():
    assert read(maybe, "null", "null", "7", '{"a": 1}') == ((None, None, "7", {"a": 1}), {})
    assert read(maybe, "7", "7", "x", "plain text") == (("7", 7, "x", "plain text"), {})
    assert read(bare, "7", "x") == ((7, "x"), {})


def test_variadic_parameters_take_what_is_left():
    assert read(variadic, "1", "2", "3", "--dry", "--fast=false") == ((1, 2, 3), {"dry": True, "fast": False})


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ((), "missing a required argument: 'order'"),
        (("seven",), "the argument 'order' does not fit: .*int"),
        (("--order", "1.5"), "the argument 'order' does not fit: .*int"),
        (("7", "a", "b"), "there is no parameter for 'b': it takes 2 by position at most"),
        (("7", "--mail", "a"), "there is no parameter --mail. There are: --order, --email, --urgent"),
        (("7", "--no-email"), "there is no parameter --no-email"),
        (("7", "--email"), "--email needs a value"),
        (("7", "--email=a", "--email=b"), "--email is there twice"),
        (("7", "--order=8"), "multiple values for argument 'order'"),
        (("7", "--urgent=perhaps"), "the argument 'urgent' does not fit"),
    ],
)
def test_what_does_not_fit_is_named(words, problem):
    with pytest.raises(ArgumentsError, match=problem):
        read(confirm, *words)


def test_of_a_sensitive_argument_no_error_says_anything():
    with pytest.raises(ArgumentsError, match="'password'") as error:
        read(secret, "hunter2")
    assert "hunter2" not in str(error.value)


def test_without_pydantic_scalars_are_checked(monkeypatch):
    monkeypatch.setattr(arguments, "codec_of", lambda _: None)
    assert read(confirm, "7", "x", "--urgent") == ((7, "x"), {"urgent": True})
    assert read(maybe, "a", "b", "[1]", "{}")[0] == ("a", "b", "[1]", {})
    with pytest.raises(ArgumentsError, match="the argument 'order' does not fit: it is no int"):
        read(confirm, "seven")


def test_parameters_are_described_as_they_are_typed():
    assert list(described(inspect.signature(confirm))) == [
        ("--order ORDER", "int; required"),
        ("--email EMAIL", "str; default: ''"),
        ("--urgent / --no-urgent", "bool; default: False"),
    ]
    assert list(described(inspect.signature(variadic))) == [
        ("--first FIRST", "int; required"),
        ("[NUMBERS]...", "int"),
        ("[--NAME FLAGS]...", "bool"),
    ]

    def hidden(one: int, /, key: Annotated[str, Sensitive] = "s3cret") -> None: ...

    assert list(described(inspect.signature(hidden))) == [("ONE", "int; required"), ("--key KEY", "str; has a default")]
