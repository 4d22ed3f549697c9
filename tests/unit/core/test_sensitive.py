"""Sensitive: which annotations carry the marker."""

import sys
from dataclasses import dataclass
from typing import Annotated, Any, Generic, NamedTuple, NewType, Optional, TypedDict, TypeVar, Unpack

import pytest
from pydantic import BaseModel, Field

from pico_celery_core import Sensitive, send_task
from pico_celery_core.contract.signatures import message_signature
from pico_celery_core.sensitive import is_sensitive

Password = Annotated[str, Sensitive]


class SecretDict(TypedDict, total=False):
    user: str
    password: "Password"


class SecretTuple(NamedTuple):
    password: "Password"


@dataclass
class SecretData:
    user: str
    password: Password | None = None


@dataclass
class SecretChild(SecretData):
    pin: int = 0


class SecretModel(BaseModel):
    password: Annotated[str, Field(min_length=3), Sensitive]


class SecretParent(BaseModel):
    children: "list[SecretParent]"
    login: SecretModel


class PlainParent(BaseModel):
    children: "list[PlainParent]"
    user: "OnlyForTypeCheckers"  # noqa: F821


_T = TypeVar("_T")


@dataclass
class Box(Generic[_T]):
    content: _T


class Client:
    Pin = Annotated[int, Sensitive]

    class Inner:
        @send_task("tasks.inner")
        def inner(self, pin: "Client.Pin") -> None: ...

    @send_task("tasks.open")
    def open(self, pin: "Pin", numbers: "list[Pin]", names: "list[str]", **rest: "Unpack[SecretDict]") -> None: ...

    def list(self) -> None: ...


@pytest.mark.parametrize(
    "annotation",
    [
        Annotated[str, Sensitive],
        Annotated[str, Sensitive()],
        Annotated[str, "a note", Sensitive],
        Annotated[str, Sensitive] | None,
        Optional[Annotated[str, Sensitive]],  # noqa: UP045
        list[Annotated[str, Sensitive]],
        dict[str, list[Annotated[str, Sensitive]]],
        "Annotated[OnlyForTypeCheckers, Sensitive]",
        Optional["Annotated[OnlyForTypeCheckers, Sensitive]"],  # noqa: F821
        NewType("Token", Password),
        list[NewType("Token", Password)],  # type: ignore[misc]
        SecretDict,
        list[SecretDict],
        Unpack[SecretDict],
        SecretTuple,
        SecretData,
        SecretChild,
        SecretModel,
        SecretModel | None,
        SecretParent,
        Box[SecretData],
        Box[Password],
    ],
)
def test_the_marker_is_found_wherever_it_stands(annotation: Any):
    assert is_sensitive(annotation)


@pytest.mark.parametrize(
    "annotation",
    [
        str,
        None,
        Any,
        str | None,
        Annotated[str, "a note"],
        Annotated[str, {"a": "note"}],
        "OnlyForTypeCheckers",
        NewType("UserId", int),
        PlainParent,
        Box[int],
    ],
)
def test_other_annotations_do_not_carry_it(annotation: Any):
    assert not is_sensitive(annotation)


def test_names_of_the_class_around_a_stub_are_known_but_hide_no_others():
    parameters = message_signature(Client.open).parameters
    assert [name for name, p in parameters.items() if is_sensitive(p.annotation)] == ["pin", "numbers", "rest"]
    assert parameters["names"].annotation == list[str]
    assert is_sensitive(message_signature(Client.Inner.inner).parameters["pin"].annotation)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type aliases of their own kind came with Python 3.12")
def test_a_type_alias_is_looked_into_even_if_it_has_itself_in_it():
    namespace: dict[str, Any] = {"Password": Password}
    exec("type Alias = Password\ntype Tree = dict[str, Tree]\ntype Secrets = list[Secrets | Alias]", namespace)
    assert [is_sensitive(namespace[name]) for name in ("Alias", "Tree", "Secrets")] == [True, False, True]
