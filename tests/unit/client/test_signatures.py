"""Typed signatures: Celery's own, checked as calls are, with what the stub knows of its messages."""

import copy
import json
import logging
import pickle
from typing import Annotated, Any

import pytest
from celery import Celery, chain, chord, group
from celery.canvas import Signature
from celery.exceptions import NotRegistered
from kombu.exceptions import OperationalError
from pico_ioc import MethodInterceptor, component, intercepted_by
from pydantic import BaseModel

from pico_celery_client import (
    CeleryClient,
    TaskResult,
    TaskSignature,
    celery,
    partial_signature,
    signature,
    with_options,
)
from pico_celery_client.testing import RecordingCelery
from pico_celery_core import send_task
from pico_celery_core.backends import BACKEND_HEADER
from pico_celery_core.errors import (
    ArgumentEncodingError,
    CallError,
    ClientNotConnectedError,
    DeclarationError,
    MissingStampError,
)
from pico_celery_core.sensitive import Sensitive


class Parcel(BaseModel):
    weight: int


@component
class Noted(MethodInterceptor):
    def invoke(self, ctx: Any, call_next: Any) -> Any:
        return call_next(ctx)


@celery
class Orders(CeleryClient):
    @send_task("orders.confirm", queue="mail", priority=3)
    def confirm(self, order: int, email: str, *, copies: int = 1) -> str: ...

    @send_task("orders.confirm", publish_timeout=3)
    async def aconfirm(self, order: int, email: str) -> str: ...

    @send_task("orders.pack")
    def pack(self, parcel: Parcel, /, depth: int = 2) -> None: ...

    @send_task("orders.sum")
    def add(self, number: int, other: int) -> int: ...

    @send_task("orders.login")
    def login(self, user: str, password: Annotated[str, Sensitive] = "hunter2") -> bool: ...

    @send_task("orders.stamped", stamped_headers=["trace"])
    def stamped(self) -> None: ...

    @send_task("orders.purge")
    def purge(self) -> None: ...

    @send_task("orders.keyword")
    def keyword(self, *, number: int) -> None: ...

    @intercepted_by(Noted)
    @send_task("orders.noted")
    async def noted(self) -> None: ...

    def plain(self) -> None: ...


@pytest.fixture
def orders(container) -> Orders:
    return container(Orders, Noted).get(Orders)


# A complete call


def test_a_signature_is_celerys_with_what_the_stub_knows(orders, app):
    made = signature(orders.confirm, 7, email="a@x")
    assert isinstance(made, Signature)
    assert (made.task, made.args, made.kwargs) == ("orders.confirm", (7,), {"email": "a@x", "copies": 1})
    assert (made.options["queue"], made.options["priority"]) == ("mail", 3)
    assert made.app is app
    assert made.immutable


def test_what_it_sends_is_what_a_call_would_send(orders, sent):
    orders.confirm(7, "a@x", copies=2)
    result = signature(orders.confirm, 7, "a@x", copies=2).delay()
    called, signed = sent("mail")
    assert (signed.args, signed.kwargs, signed.properties["priority"]) == (called.args, called.kwargs, 3)
    assert signed.headers[BACKEND_HEADER] == called.headers[BACKEND_HEADER]
    assert isinstance(result, TaskResult)
    assert result.id == signed.id


def test_options_of_with_options_and_of_set_win(orders, sent):
    made = signature(with_options(orders, priority=5, shadow="mine").confirm, 7, "a@x").set(queue="fast")
    made.apply_async(priority=9)
    (message,) = sent("fast")
    assert (message.properties["priority"], message.headers["shadow"]) == (9, "mine")


def test_one_signature_can_be_sent_twice(orders, sent):
    made = signature(orders.add, 1, 2)
    first, second = made.delay(), made.delay()
    assert [message.id for message in sent()] == [first.id, second.id]
    assert first.id != second.id


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"mail": "a@x"})])
def test_a_call_that_does_not_fit_is_refused(orders, args, kwargs):
    with pytest.raises(CallError, match=r"Orders\.confirm, which sends 'orders\.confirm'"):
        signature(orders.confirm, *args, **kwargs)


def test_an_argument_that_cannot_be_encoded_is_named(orders, sent):
    with pytest.raises(ArgumentEncodingError, match="'email', a set"):
        signature(with_options(orders, typed=False).confirm, 7, {"a@x"}).delay()
    assert sent("mail") == []


def test_models_are_plain_data_and_json_can_hold_it(orders):
    made = signature(orders.pack, Parcel(weight=3))
    assert json.loads(json.dumps(made))["args"] == [{"weight": 3}]
    assert made.kwargs == {"depth": 2}


def test_a_signature_of_an_async_stub_has_no_deadline_of_ours(orders, sent):
    made = signature(orders.aconfirm, 7, "a@x")
    assert "publish_timeout" not in made.options
    made.set(publish_timeout=3).delay()
    assert len(sent()) == 1


async def test_sending_on_a_running_event_loop_draws_one_warning(orders, caplog):
    caplog.set_level(logging.WARNING)
    for _ in range(2):
        signature(orders.aconfirm, 7, "a@x").delay()
    (record,) = [record for record in caplog.records if "event loop" in record.getMessage()]
    assert "A signature of Orders.aconfirm" in record.getMessage()


def test_a_stamp_that_is_named_has_to_be_given(orders, sent):
    with pytest.raises(MissingStampError):
        signature(orders.stamped)
    signature(with_options(orders, trace="t-1").stamped).delay()
    (message,) = sent()
    assert message.headers["stamps"] == {"trace": "t-1"}


def test_celerys_own_stamps(orders, sent):
    made = signature(orders.add, 1, 2)
    made.stamp(trace="t-1")
    made.delay()
    (message,) = sent()
    assert message.headers["stamps"] == {"trace": "t-1"}


@pytest.mark.parametrize("method", ["plain", "noted"])
def test_what_is_no_stub_is_refused(orders, method):
    with pytest.raises(DeclarationError, match="not a @send_task stub of a client"):
        signature(getattr(orders, method))


def test_a_stub_without_its_client_is_refused():
    with pytest.raises(DeclarationError, match="of a client from the container"):
        signature(Orders.purge, None)
    with pytest.raises(ClientNotConnectedError):
        signature(Orders().purge)


# A call that something fills in


def test_a_partial_signature_leaves_its_first_argument_open(orders, sent):
    made = partial_signature(orders.confirm, "a@x")
    assert (made.args, made.kwargs, made.immutable) == (("a@x",), {"copies": 1}, False)
    result = made.delay(7)
    (message,) = sent("mail")
    assert (message.args, message.kwargs, message.id) == ([7, "a@x"], {"copies": 1}, result.id)


def test_more_than_the_first_may_be_left_open(orders, sent):
    partial_signature(orders.confirm).apply_async((7,), {"email": "a@x"})
    (message,) = sent("mail")
    assert (message.args, message.kwargs) == ([7], {"email": "a@x", "copies": 1})


def test_a_partial_signature_that_is_sent_incomplete_is_refused(orders, sent):
    with pytest.raises(CallError, match="missing a required argument: 'email'"):
        partial_signature(orders.confirm).delay(7)
    assert sent("mail") == []


@pytest.mark.parametrize(
    ("method", "args", "kwargs"),
    [
        ("confirm", (7, "a@x"), {}),
        ("confirm", (), {"order": 7}),
        ("confirm", (), {"mail": "a@x"}),
        ("purge", (), {}),
        ("keyword", (), {"number": 1}),
    ],
)
def test_a_partial_call_that_cannot_fit_is_refused(orders, method, args, kwargs):
    with pytest.raises(CallError, match="where the result of another task comes first"):
        partial_signature(getattr(orders, method), *args, **kwargs)


def test_a_default_by_position_stays_in_its_place(orders, sent):
    partial_signature(orders.pack).delay(Parcel(weight=3))
    (message,) = sent()
    assert (message.args, message.kwargs) == ([{"weight": 3}], {"depth": 2})


# What is sensitive


def test_sensitive_arguments_show_nowhere(orders, sent):
    made = signature(orders.login, "ada", "s3cret")
    assert repr(made) == "orders.login(('ada', '***'), {})"
    assert "s3cret" not in repr(made | signature(orders.purge))
    assert "hunter2" not in repr(signature(orders.login, "ada"))
    made.delay()
    (message,) = sent()
    assert message.args == ["ada", "s3cret"]
    assert message.headers["argsrepr"] == "('ada', '***')"


def test_a_partial_signature_of_them_shows_no_argument(orders, sent):
    made = partial_signature(orders.login, "s3cret")
    assert "s3cret" not in repr(made)
    made.delay("ada")
    (message,) = sent()
    assert (message.headers["argsrepr"], message.headers["kwargsrepr"]) == ("***", "***")


# Celery's canvas


def test_copies_remain_what_they_are(orders, sent):
    made = signature(orders.add, 1, 2)
    for copied in (made.clone(), copy.deepcopy(made), made.replace(args=(3, 4)), made.partial()):
        assert isinstance(copied, TaskSignature)
        copied.options["headers"]["mine"] = 1
        assert "mine" not in made.options["headers"]
        assert isinstance(copied.delay(), TaskResult)
    assert [message.args for message in sent()] == [[1, 2], [1, 2], [3, 4], [1, 2]]


def test_what_json_or_pickle_makes_of_it_is_celerys(orders, app):
    made = signature(orders.add, 1, 2)
    for text in (Signature.from_dict(json.loads(json.dumps(made)), app=app), pickle.loads(pickle.dumps(made))):
        assert type(text) is Signature
        assert (text.task, list(text.args), text.immutable) == ("orders.sum", [1, 2], True)


def test_frozen_it_has_the_id_of_its_result(orders, sent):
    made = signature(orders.add, 1, 2)
    result = made.freeze()
    assert isinstance(result, TaskResult)
    assert made.delay().id == result.id == sent()[0].id


def test_in_a_chain(orders, sent):
    made = chain(signature(orders.add, 1, 2), partial_signature(orders.add, 3), signature(orders.purge))
    result = made.apply_async()
    assert isinstance(result, TaskResult)
    assert isinstance(result.parent, TaskResult)
    (message,) = sent()
    assert message.id == result.parent.parent.id
    later = message.embed["chain"]  # the last first
    assert [(each["task"], each["args"], each["immutable"]) for each in later] == [
        ("orders.purge", [], True),
        ("orders.sum", [3], False),
    ]
    assert all(each["options"]["headers"][BACKEND_HEADER] for each in later)


def test_with_a_bar(orders, sent):
    result = (signature(orders.add, 1, 2) | partial_signature(orders.add, 3)).delay()
    assert isinstance(result, TaskResult)
    (message,) = sent()
    assert message.id == result.parent.id


def test_in_a_group(orders, sent):
    result = group(signature(orders.add, number, 1) for number in range(3)).apply_async()
    assert [type(each) for each in result.results] == [TaskResult] * 3
    assert [message.id for message in sent()] == [each.id for each in result.results]


def test_in_a_chord(orders, sent, monkeypatch, app):
    monkeypatch.setattr(type(app.backend), "apply_chord", lambda *_, **__: None)
    result = chord([signature(orders.add, 1, 2), signature(orders.add, 3, 4)], partial_signature(orders.add, 5))()
    assert isinstance(result, TaskResult)


def test_as_link_and_link_error(orders, sent):
    made = signature(orders.add, 1, 2)
    made.link(partial_signature(orders.add, 3))
    made.link_error(signature(orders.purge))
    made.delay()
    (message,) = sent()
    assert [each["task"] for each in message.embed["callbacks"]] == ["orders.sum"]
    assert [each["task"] for each in message.embed["errbacks"]] == ["orders.purge"]


def test_as_an_option_of_a_stub(orders, sent):
    with_options(orders, link=signature(orders.purge)).add(1, 2)
    (message,) = sent()
    assert [each["task"] for each in message.embed["callbacks"]] == ["orders.purge"]


def test_in_beat(orders, app):
    app.add_periodic_task(30, signature(orders.confirm, 7, "a@x"), name="mine", priority=9)
    app.finalize()
    entry = app.conf.beat_schedule["mine"]
    assert (entry["task"], entry["args"], entry["kwargs"]) == ("orders.confirm", (7, "a@x"), {"copies": 1})
    assert (entry["options"]["queue"], entry["options"]["priority"]) == ("mail", 9)


def test_it_cannot_run_here(orders):
    with pytest.raises(NotRegistered):
        signature(orders.purge).apply()


def test_recorded(container):
    recording = RecordingCelery()
    orders = container(Orders, Noted, overrides={Celery: recording}).get(Orders)
    recording.returns(orders.add, 3)
    assert signature(orders.add, 1, 2).delay().get() == 3
    assert recording.assert_sent(orders.add, 1, 2).options == {}


def test_a_broker_that_is_away_is_named(container):
    app = Celery("tests", broker="redis://localhost:1/0", backend="cache+memory://", set_as_current=False)
    orders = container(Orders, Noted, overrides={Celery: app}).get(Orders)
    with pytest.raises(OperationalError, match=r"orders\.sum.*localhost:1/0"):
        signature(orders.add, 1, 2).apply_async(retry=False)
