"""A client's contract, written to JSON and read again."""

import datetime as dt
import inspect
import json
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel

from pico_celery_core import Sensitive, send_task
from pico_celery_core.contract.compatibility import compare
from pico_celery_core.contract.file import read_contract, write_contract
from pico_celery_core.contract.signatures import message_signature
from pico_celery_core.errors import ContractFileError


class Orders:
    @send_task("orders.confirm")
    def confirm(self, order: int, email: str, /, *more: str, copies: int = 1, **rest: Any) -> str: ...

    @send_task("orders.archive")
    async def archive(
        self, before: dt.datetime, tags: list[str] | None = None, note: Annotated[str, 1] = ""
    ) -> None: ...

    @send_task("orders.login")
    def login(self, password: Annotated[str, Sensitive], when: object = object()) -> None: ...

    def total(self) -> int: ...


def stub(task: str) -> inspect.Signature:
    return next(found.signature for found in read_contract(write_contract([Orders])) if found.task == task)


def test_every_stub_is_written_and_nothing_else():
    found = read_contract(write_contract([Orders]))
    assert [(s.task, s.name.rpartition(".")[2]) for s in found] == [
        ("orders.archive", "archive"),
        ("orders.confirm", "confirm"),
        ("orders.login", "login"),
    ]


def test_names_kinds_defaults_and_plain_annotations_survive():
    written, read = message_signature(Orders.confirm), stub("orders.confirm")
    assert [(p.name, p.kind, p.default) for p in read.parameters.values()] == [
        (p.name, p.kind, p.default) for p in written.parameters.values()
    ]
    assert read.parameters["order"].annotation is int
    assert read.return_annotation is str
    assert stub("orders.archive").parameters["before"].annotation is dt.datetime


def test_a_default_that_json_cannot_hold_is_still_a_default():
    read = stub("orders.login")
    read.bind("secret")

    async def handler(self, password: str, when: object = None) -> None: ...

    assert compare(read, message_signature(handler)).differences == ()


def test_a_sensitive_default_is_not_written():
    class Accounts:
        @send_task("accounts.open")
        def open(self, password: Annotated[str, Sensitive] = "hunter2", pin: int = 4711) -> None: ...

    text = write_contract([Accounts])
    assert "hunter2" not in text
    (read,) = read_contract(text)
    assert read.signature.parameters["pin"].default == 4711
    assert compare(read.signature, message_signature(Accounts.open)).differences == ()


@pytest.mark.parametrize(
    ("annotation", "read"),
    [
        (dict[str, str | list[str]], dict),
        (list[dict[str, int | None]] | str | None, list | str | None),
        (Literal["a | b", "["], inspect.Parameter.empty),
        (dict[str, int] | Any, inspect.Parameter.empty),
    ],
)
def test_an_annotation_is_read_as_far_as_it_is_plain(annotation: Any, read: Any):
    class Made:
        @send_task("tasks.run")
        def run(self, value: Any) -> None: ...

    inspect.unwrap(Made.run).__annotations__["value"] = annotation
    (found,) = read_contract(write_contract([Made]))
    assert found.signature.parameters["value"].annotation == read
    assert compare(found.signature, message_signature(Made.run)).differences == ()


def test_the_order_does_not_change_from_one_run_to_the_next():
    assert write_contract([Orders]) == write_contract(dict.fromkeys([Orders]))


def test_a_handler_is_compared_as_if_the_stub_were_here():
    async def renamed(self, order: int, mail: str) -> str: ...

    async def other_type(self, before: int, tags: list[str] | None = None, note: str = "") -> None: ...

    assert compare(stub("orders.archive"), message_signature(renamed)).agrees is False
    assert "'before'" in compare(stub("orders.archive"), message_signature(other_type)).differences[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "JSONDecodeError"),
        ("[]", "TypeError"),
        ("{}", "'format'"),
        (json.dumps({"format": 2, "stubs": []}), "its format is 2"),
        (json.dumps({"format": 1, "stubs": [{"task": "x"}]}), "'stub'"),
        (
            json.dumps(
                {"format": 1, "stubs": [{"task": "x", "stub": "y", "parameters": [{"name": "a", "kind": "ODD"}]}]}
            ),
            "ODD",
        ),
    ],
)
def test_what_is_no_contract_is_told_apart(text: str, says: str):
    with pytest.raises(ContractFileError, match="python -m pico_celery_client contract") as failed:
        read_contract(text)
    assert says in str(failed.value)


def test_models_are_told_by_their_schemas():
    class Parcel(BaseModel):
        weight: float

    class Parcels:
        @send_task("parcels.weigh")
        def weigh(self, parcel: Parcel, copies: int) -> set[int]: ...

    (entry,) = read_contract(write_contract([Parcels]))
    assert entry.schemas.keys() == {"parcel"}
    assert entry.schemas["parcel"]["properties"]["weight"]["type"] == "number"
    assert entry.returned == {"items": {"type": "integer"}, "type": "array", "uniqueItems": True}
