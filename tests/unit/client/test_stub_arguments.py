"""What arguments and results may be: what Celery's serializer carries, and what becomes of it."""

import dataclasses
import enum
import itertools
import traceback
import uuid
from collections import OrderedDict, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, TypedDict, Unpack

import pytest
from celery import signals
from pydantic import BaseModel, Field, PrivateAttr, RootModel, SecretStr, computed_field

from pico_celery_client import CeleryClient, celery, with_options
from pico_celery_client.stub import stub_of
from pico_celery_core import Sensitive, send_task
from pico_celery_core.errors import ArgumentEncodingError, CallError, LossyModelError


class Colour(enum.Enum):
    RED = "red"


class Size(enum.StrEnum):
    SMALL = "small"


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Point:
    x: int
    y: int


class Address(BaseModel):
    street: str
    since: date


class Order(BaseModel):
    id: uuid.UUID
    address: Address


class Aliased(BaseModel):
    order: int = Field(alias="orderId")


class AliasedTwice(BaseModel):
    order: int = Field(validation_alias="orderId", serialization_alias="order-id")


class AliasedOut(BaseModel):
    order: int = Field(serialization_alias="orderId")


class Box(BaseModel, extra="forbid"):
    width: int

    @computed_field
    def area(self) -> int:
        return self.width**2


class WithSecret(BaseModel):
    password: SecretStr


class Hidden(BaseModel):
    token: str = Field(default="", exclude=True)


class Remembered(BaseModel):
    number: int
    _times: int = PrivateAttr(default_factory=itertools.count().__next__)


class PostalAddress(Address):
    code: str


class OwnJson:
    def __json__(self) -> dict[str, int]:
        return {"own": 1}


Pair = namedtuple("Pair", "a b")  # noqa: PYI024

ID = uuid.UUID("12345678123456781234567812345678")
ORDER = Order(id=ID, address=Address(street="Main St", since=date(2024, 5, 6)))
SAME = {
    "None": None,
    "bool": True,
    "int": 2**70,
    "float": 1.5,
    "str": "grün\N{PILE OF POO}",
    "list": [1, [2]],
    "dict": {"a": {"b": None}},
    "datetime": datetime(2024, 5, 6, 7, 8, 9, 10),  # noqa: DTZ001
    "datetime in UTC": datetime(2024, 5, 6, tzinfo=UTC),
    "datetime elsewhere": datetime(2024, 5, 6, tzinfo=timezone(timedelta(hours=2))),
    "date": date(2024, 5, 6),
    "time": time(7, 8, 9),
    "Decimal": Decimal("1.10"),
    "UUID": ID,
    "bytes": b"text",
    "bytes that are no text": b"\xff\x00",
    "nested": {"when": [date(2024, 5, 6), {"id": ID}]},
}
CHANGED = {
    "tuple": ((1, 2), [1, 2]),
    "namedtuple": (Pair(1, 2), [1, 2]),
    "keys that are no text": ({1: "a", None: "b"}, {"1": "a", "null": "b"}),
    "OrderedDict": (OrderedDict(a=1), {"a": 1}),
    "StrEnum": (Size.SMALL, "small"),
    "IntEnum": (Level.HIGH, 3),
    "an object with __json__": (OwnJson(), {"own": 1}),
}
MODELS = {
    "pydantic model": (
        ORDER,
        {"id": str(ID), "address": {"street": "Main St", "since": "2024-05-06"}},
    ),
    "aliases": (Aliased(orderId=7), {"orderId": 7}),
    "aliases of the dump alone": (AliasedOut(order=7), {"order": 7}),
    "computed fields": (Box(width=2), {"width": 2}),
    "a root model": (RootModel[list[int]]([1, 2]), [1, 2]),
}
LOSSY = {
    "secrets": WithSecret(password="hunter2"),  # type: ignore[arg-type]
    "fields left out": Hidden(token="hunter2"),
    "aliases that differ": AliasedTwice(orderId=7),
    "state of its own": Remembered(number=1),
    "a child in the place of its parent": Order(
        id=ID, address=PostalAddress(street="Main St", since=date(2024, 5, 6), code="12345")
    ),
}
REFUSED = {
    "Enum": Colour.RED,
    "dataclass": Point(1, 2),
    "set": {1},
    "timedelta": timedelta(1),
    "Path": Path("x"),
    "complex": 1j,
    "object": object(),
    "function": print,
    "keys that are tuples": {(1, 2): 3},
    "models in a list": [ORDER],
}


@celery
class Client(CeleryClient):
    @send_task("tasks.take")
    def take(self, value: Any, *rest: Any, other: Any = None, **more: Any) -> Any: ...

    @send_task("tasks.take")
    async def atake(self, value: Any) -> Any: ...


@pytest.fixture
def client(container) -> Client:
    return container(Client).get(Client)


@pytest.mark.parametrize("value", SAME.values(), ids=SAME)
def test_an_argument_arrives_as_it_was(client, sent, value):
    client.take(value, other=value)
    (message,) = sent()
    assert (message.args, message.kwargs) == ([value], {"other": value})
    assert type(message.args[0]) is type(value)


@pytest.mark.parametrize(("value", "arrives"), {**CHANGED, **MODELS}.values(), ids={**CHANGED, **MODELS})
def test_an_argument_arrives_as_something_else(client, sent, value, arrives):
    client.take(value, other=value)
    (message,) = sent()
    assert (message.args, message.kwargs) == ([arrives], {"other": arrives})
    assert type(message.args[0]) is type(arrives)


@pytest.mark.parametrize(("model", "arrives"), MODELS.values(), ids=MODELS)
def test_a_handler_can_make_an_equal_model_of_what_arrives(model, arrives):
    assert type(model).model_validate(arrives) == model


@pytest.mark.parametrize("value", SAME.values(), ids=SAME)
def test_a_result_comes_back_as_it_was(client, value):
    result = client.take(1)
    result.backend.store_result(result.id, value, "SUCCESS")
    assert result.get(timeout=60) == value


@pytest.mark.parametrize(("value", "arrives"), CHANGED.values(), ids=CHANGED)
def test_a_result_comes_back_as_something_else(client, value, arrives):
    result = client.take(1)
    result.backend.store_result(result.id, value, "SUCCESS")
    assert result.get(timeout=60) == arrives


@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_encoded_is_refused_and_named(client, sent, value):
    with pytest.raises(TypeError) as error:
        client.take(1, other=value)
    assert isinstance(error.value, ArgumentEncodingError)
    assert str(error.value) == (
        "Client.take, which sends 'tasks.take': the json serializer cannot encode the argument "
        f"'other', a {type(value).__qualname__}. "
        "Pass plain values instead: numbers, text, lists, dicts, dates, UUIDs. Nothing was sent."
    )
    assert error.value.__cause__ is not None
    assert sent() == []


@pytest.mark.parametrize("model", LOSSY.values(), ids=LOSSY)
def test_a_model_that_does_not_round_trip_through_json_is_refused_and_named(client, sent, model):
    with pytest.raises(LossyModelError) as error:
        client.take(1, other=model)
    assert str(error.value) == (
        "Client.take, which sends 'tasks.take': the json serializer cannot encode the argument "
        f"'other', a {type(model).__name__}, which does not round-trip through JSON. "
        "Pass plain values instead: numbers, text, lists, dicts, dates, UUIDs. Nothing was sent."
    )
    assert sent() == []


def test_what_pydantic_says_of_a_refused_model_is_the_cause(client):
    with pytest.raises(LossyModelError) as error:
        client.take(LOSSY["aliases that differ"])
    assert "Field required" in str(error.value.__cause__)


def test_a_default_that_is_a_model_is_dumped_and_refused_as_well(container, sent):
    @celery
    class Defaults(CeleryClient):
        @send_task("tasks.take")
        def take(self, order: Any = ORDER, /, *, more: Any = None) -> None: ...

        @send_task("tasks.take")
        def refused(self, *, login: WithSecret = LOSSY["secrets"]) -> None: ...  # type: ignore[assignment]

    client = container(Defaults).get(Defaults)
    client.take()
    client.take(more=ORDER)
    assert [message.args for message in sent()] == [[ORDER.model_dump(mode="json")]] * 2
    with pytest.raises(LossyModelError, match="'login', a WithSecret"):
        client.refused()


@pytest.mark.parametrize(
    ("args", "kwargs", "name"),
    [
        ((print,), {}, "value"),
        ((1, 2, print), {}, "rest"),
        ((1,), {"surplus": print}, "more"),
        ((), {"value": print}, "value"),
    ],
)
def test_the_parameter_is_named_however_the_argument_comes(client, args, kwargs, name):
    with pytest.raises(ArgumentEncodingError) as error:
        client.take(*args, **kwargs)
    assert error.value.argument == name


async def test_an_async_stub_names_it_as_well(client, sent):
    with pytest.raises(ArgumentEncodingError, match=r"Client\.atake.* 'value', a Point"):
        await client.atake(Point(1, 2))
    assert sent() == []


def test_an_option_that_cannot_be_encoded_is_no_argument_that_cannot(client):
    with pytest.raises(Exception, match="not JSON serializable") as error:
        with_options(client, link=object()).take(1)
    assert not isinstance(error.value, ArgumentEncodingError)


def test_another_serializer_carries_what_it_can(client, app, sent):
    app.conf.accept_content = ["pickle"]
    with_options(client, serializer="pickle").take(1)
    with pytest.raises(ArgumentEncodingError, match="the pickle serializer cannot encode the argument 'value'"):
        with_options(client, serializer="pickle").take(lambda: None)


def test_each_shape_of_a_call_is_bound_as_the_first_one_was(client, sent):
    for number in range(3):
        client.take(number)
        client.take(number, 2, other=number)
        client.take(value=number, third=number)
    assert [(message.args, message.kwargs) for message in sent()] == [
        item
        for number in range(3)
        for item in (
            ([number], {"other": None}),
            ([number, 2], {"other": number}),
            ([], {"value": number, "third": number, "other": None}),
        )
    ]


def test_what_is_remembered_of_the_shapes_of_calls_has_a_limit(client, sent):
    for number in range(200):
        client.take(1, **{f"name{number}": 1})
    assert len(stub_of(Client.take)._added) <= 64
    assert [*sent()[-1].kwargs] == ["name199", "other"]


# Sensitive arguments


class Secret(BaseModel):
    pin: str


class Login(TypedDict):
    user: str
    password: Annotated[str, Sensitive]


@celery
class Accounts(CeleryClient):
    @send_task("accounts.open")
    def open(self, user: str, password: Annotated[str, Sensitive]) -> None: ...

    @send_task("accounts.open")
    async def aopen(self, user: str, password: Annotated[str, Sensitive] = "s3cret") -> None: ...

    @send_task("accounts.tokens")
    def tokens(
        self, user: str, /, *tokens: Annotated[str, Sensitive], pin: Annotated[int, Sensitive] = 4711, copies: int = 1
    ) -> None: ...

    @send_task("accounts.named")
    def named(self, user: str, **secrets: Annotated[str, Sensitive]) -> None: ...

    @send_task("accounts.model")
    def model(self, user: str, secret: Annotated[Secret, Sensitive] | None = None) -> None: ...

    @send_task("accounts.log_in")
    def log_in(self, login: Login, **more: Unpack[Login]) -> None: ...

    @send_task("accounts.public")
    def public(self, user: Any) -> None: ...

    @send_task("accounts.only_for_type_checkers")
    def unknown(self, password: "Annotated[OnlyForTypeCheckers, Sensitive]") -> None: ...  # noqa: F821


@pytest.fixture
def accounts(container) -> Accounts:
    return container(Accounts).get(Accounts)


CALLS = {
    "positional": (lambda c: c.open("ada", "s3cret"), "('ada', '***')", "{}"),
    "keyword": (lambda c: c.open(password="s3cret", user="ada"), "()", "{'password': '***', 'user': 'ada'}"),
    "*args": (
        lambda c: c.tokens("ada", "s3cret", "s3cret too"),
        "('ada', '***', '***')",
        "{'pin': '***', 'copies': 1}",
    ),
    "**kwargs": (lambda c: c.named("ada", one="s3cret", two="s3cret"), "('ada',)", "{'one': '***', 'two': '***'}"),
    "model": (lambda c: c.model("ada", Secret(pin="s3cret")), "('ada', '***')", "{}"),
    "fields": (
        lambda c: c.log_in({"user": "ada", "password": "s3cret"}, user="ada", password="s3cret"),
        "('***',)",
        "{'user': '***', 'password': '***'}",
    ),
    "an annotation for type checkers only": (lambda c: c.unknown("s3cret"), "('***',)", "{}"),
}


@pytest.mark.parametrize(("call", "args", "kwargs"), CALLS.values(), ids=CALLS)
def test_a_sensitive_argument_is_masked_where_arguments_are_shown(accounts, sent, call, args, kwargs):
    call(accounts)
    (message,) = sent()
    assert (message.headers["argsrepr"], message.headers["kwargsrepr"]) == (args, kwargs)
    assert "s3cret" in str((message.args, message.kwargs))
    assert "s3cret" not in str(message.headers)


async def test_a_sensitive_default_of_an_async_stub_is_masked(accounts, sent):
    await accounts.aopen("ada")
    (message,) = sent()
    assert message.headers["kwargsrepr"] == "{'password': '***'}"
    assert message.kwargs == {"password": "s3cret"}


def test_the_event_of_a_sent_task_shows_no_sensitive_argument(accounts, app):
    app.conf.task_send_sent_event = True
    seen: list[Any] = []
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"task-sent": seen.append})
        with receiver.consumer_context() as (reading, _, _):
            accounts.open("ada", "s3cret")
            reading.drain_events(timeout=60)
    (event,) = seen
    assert (event["name"], event["args"], event["kwargs"]) == ("accounts.open", "('ada', '***')", "{}")


def test_signals_show_the_mask_as_well(accounts):
    seen: list[str] = []

    def before(headers: dict[str, Any], **_: Any) -> None:
        seen.append(headers["argsrepr"])

    signals.before_task_publish.connect(before, sender="accounts.open")
    try:
        accounts.open("ada", "s3cret")
    finally:
        signals.before_task_publish.disconnect(before, sender="accounts.open")
    assert seen == ["('ada', '***')"]


async def test_a_call_that_does_not_fit_shows_no_sensitive_value(accounts):
    with pytest.raises(CallError) as error:
        await accounts.aopen("ada", "hunter2", "hunter3", extra="hunter4")
    assert "s3cret" not in str(error.value)
    assert "hunter" not in str(error.value)
    assert "Call it as aopen(user: str, password: str = '***') -> None." in str(error.value)


def test_an_argument_that_cannot_be_encoded_is_named_but_not_shown(accounts):
    class Password(str):
        __slots__ = ()

        def __repr__(self) -> str:
            return "hunter2"

    class Broken(BaseModel):
        pin: str = Field(validation_alias="in", serialization_alias="out")

    for value in ({Password("hunter2")}, Broken.model_validate({"in": "hunter2"})):
        with pytest.raises(ArgumentEncodingError) as error:
            with_options(accounts, typed=False).open("ada", value)  # type: ignore[arg-type]
        assert "hunter2" not in f"{error.value} {error.value.__cause__}"
        assert error.value.argument == "password"


def test_what_is_shown_is_as_short_as_celery_makes_it(accounts, sent):
    accounts.open("a" * 5000, "s3cret")
    with_options(accounts, typed=False).open([[[[["deep"]]]]], "s3cret")  # type: ignore[arg-type]
    long, deep = (message.headers["argsrepr"] for message in sent())
    assert len(long) <= 1100
    assert "deep" not in deep


def test_options_may_show_them_otherwise(accounts, sent):
    with_options(accounts, argsrepr="(...)").open("ada", "s3cret")
    (message,) = sent()
    assert (message.headers["argsrepr"], message.headers["kwargsrepr"]) == ("(...)", "{}")


def local_variables(error: BaseException | None) -> str:
    """Return what stands in the frames of an error and of its causes, but for those of this test."""
    found = []
    while error is not None:
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        found += [repr(frame.f_locals) for frame in frames if frame.f_code.co_filename != __file__]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(found)


@pytest.mark.parametrize("stub", ["open", "aopen"])
@pytest.mark.parametrize(
    ("args", "error"),
    [
        (("ada", "s3cret", "s3cret"), CallError),
        (("ada", {"s3cret"}), CallError),
        (("ada", object()), CallError),
        (("ada", "s3cret"), ZeroDivisionError),
    ],
)
async def test_the_frames_of_a_failed_call_have_no_sensitive_argument(accounts, app, stub, args, error):
    if error is ZeroDivisionError:
        app.amqp.send_task_message = lambda producer, name, message, **options: 1 / 0

    async def send() -> None:
        sending = getattr(accounts, stub)(*args)
        if stub == "aopen":
            await sending

    with pytest.raises(error) as raised:
        await send()
    assert "s3cret" not in local_variables(raised.value)


def test_the_frames_of_other_calls_are_kept(accounts):
    with pytest.raises(ArgumentEncodingError) as raised:
        accounts.public({1})
    assert any("_send" in str(entry) for entry in raised.traceback)
