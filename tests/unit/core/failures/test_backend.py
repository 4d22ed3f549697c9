"""What a caller gets of the exception that a worker's task has raised."""

import copy
import json
import pickle
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, Self

import pydantic
import pytest
from celery import Celery
from celery.app.trace import build_tracer
from celery.backends.base import DisabledBackend
from celery.backends.redis import RedisBackend
from celery.exceptions import MaxRetriesExceededError, SecurityError, TaskRevokedError
from celery.result import AsyncResult
from celery.utils import uuid
from pydantic_core import PydanticCustomError

from pico_celery_core.failures.backend import FailuresInFull, store_failures_in_full
from pico_celery_core.failures.restoration import WorkerTraceback


class OrderError(ValueError):
    def __init__(self, order: int) -> None:
        super().__init__(f"order {order} failed")
        self.order = order


class KeywordError(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__("code", code)
        self.code = code

    def __str__(self) -> str:
        return f"failed with {self.code}"


class LockedError(Exception):
    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.lock = threading.Lock()
        self.why = why


class WrappedError(Exception):
    """Says something of what cannot be sent."""

    def __str__(self) -> str:
        return f"about {type(self.args[0]).__name__}"


class SlottedError(Exception):
    __slots__ = ("left",)

    def __str__(self) -> str:
        return f"{self.left} left"


class FileGoneError(FileNotFoundError):
    def __init__(self, name: str, retry: bool) -> None:
        super().__init__(2, "No such file", name)
        self.retry = retry


class Failures(ExceptionGroup):
    def __new__(cls, message: str, errors: list[Exception], place: str = "") -> Self:
        made = super().__new__(cls, message, errors)
        made.place = place
        return made

    def derive(self, errors: Any) -> "Failures":
        return Failures(self.message, errors, self.place)


class Parcel(pydantic.BaseModel):
    order: int
    tags: list[str] = []

    @pydantic.field_validator("tags")
    @classmethod
    def check(cls, tags: list[str]) -> list[str]:
        if "odd" in tags:
            raise PydanticCustomError("odd", "{tag} {is} odd", {"tag": "it"})
        if tags:
            raise ValueError("no {tags}")
        return tags


def invalid(**fields: Any) -> pydantic.ValidationError:
    with pytest.raises(pydantic.ValidationError) as info:
        Parcel(**fields)
    return info.value


def slotted() -> SlottedError:
    error = SlottedError()
    error.left = 3
    return error


def decoding() -> UnicodeDecodeError:
    with pytest.raises(UnicodeDecodeError) as info:
        b"\xff".decode()
    return info.value


@pytest.fixture
def app() -> Celery:
    """What both sides have."""
    made = Celery("tests", backend="cache+memory://", set_as_current=False)
    store_failures_in_full(made)
    return made


@pytest.fixture
def plain() -> Celery:
    """The same backend, as Celery has it."""
    return Celery("plain", backend="cache+memory://", set_as_current=False)


def fail(app: Celery, error: BaseException) -> str:
    """Let a task raise an exception, traced as in a worker; return its id."""

    task_id = uuid()

    @app.task(name=f"tasks.{task_id}", shared=False)
    def run() -> None:
        raise error

    build_tracer(run.name, run, app=app)(task_id, (), {}, {"id": task_id, "delivery_info": {}})
    return task_id


def received(app: Celery, task_id: str) -> Any:
    with pytest.raises(BaseException) as info:  # noqa: PT011
        AsyncResult(task_id, app=app).get(timeout=60)
    return info.value


def sent(app: Celery, error: BaseException) -> Any:
    return received(app, fail(app, error))


ERRORS = {
    "built-in": ValueError("no"),
    "of no words": ValueError(),
    "of several": ValueError("a", 1, None),
    "key": KeyError("k"),
    "order": OrderError(7),
    "keyword": KeywordError(code=5),
    "lock": LockedError("locked"),
    "slots": slotted(),
    "errno": ConnectionRefusedError(111, "refused"),
    "file": FileNotFoundError(2, "No such file", "a.txt"),
    "file of its own": FileGoneError("a.txt", retry=True),
    "decode": decoding(),
    "stop": StopAsyncIteration(3),
    "import": ImportError("no module", name="x", path="y"),
    "group": ExceptionGroup("two", [ValueError("a"), KeyError("b")]),
    "own group": Failures("two", [OrderError(1), KeywordError(code=2)], "here"),
    "nested": ExceptionGroup("a", [ExceptionGroup("b", [invalid(order="x")]), OSError(2, "gone")]),
    "validation": invalid(order="x", tags=["y"]),
    "validation of a model's own": invalid(order=1, tags=["odd"]),
    "validation of what is no JSON": invalid(order=Path("x")),
    "validation of nothing": invalid(),
    "json": json.JSONDecodeError("Expecting value", "{", 1),
}


def likeness(error: BaseException) -> Any:
    members = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    args = error.args[:1] if members else error.args
    return type(error), str(error), args, [likeness(member) for member in members]


@pytest.mark.parametrize("name", ERRORS)
def test_a_caller_gets_what_the_handler_raised(app, name):
    assert likeness(sent(app, ERRORS[name])) == likeness(ERRORS[name])


def test_attributes_arrive_where_the_serializer_allows_it(app):
    assert vars(sent(app, OrderError(7))) == {"order": 7}
    assert sent(app, KeywordError(code=5)).code == 5
    assert sent(app, FileNotFoundError(2, "No such file", "a.txt")).filename == "a.txt"
    assert sent(app, FileGoneError("a.txt", retry=True)).retry is True
    assert sent(app, slotted()).left == 3
    assert sent(app, ERRORS["import"]).name == "x"
    assert sent(app, ERRORS["own group"]).place == "here"
    assert sent(app, LockedError("why")).why == "why"
    assert sent(app, ERRORS["json"]).pos == 1


def test_a_validation_error_has_its_errors(app):
    error = invalid(order="x", tags=["y"])
    found = sent(app, error).errors(include_url=False, include_context=False)
    assert found == error.errors(include_url=False, include_context=False)
    assert str(sent(app, error).errors()[1]["ctx"]["error"]) == "no {tags}"


def test_what_cannot_be_sent_keeps_class_and_text(app):
    error = sent(app, WrappedError(object()))
    assert isinstance(error, WrappedError)
    assert str(error) == "about object"
    assert type(error).__name__ == "WrappedError"
    assert error.args[0].startswith("<object object")


def test_notes_arrive(app):
    error = ValueError("no")
    error.add_note("Try again.")
    assert sent(app, error).__notes__ == ["Try again."]


def test_a_cause_arrives_with_its_own(app):
    error, first, root = OrderError(7), KeywordError(code=5), KeyError("root")
    error.__cause__, first.__cause__ = first, root
    arrived = sent(app, error)
    assert likeness(arrived.__cause__) == likeness(first)
    assert likeness(arrived.__cause__.__cause__) == likeness(root)


def test_a_context_arrives_unless_it_is_suppressed(app):
    shown, hidden = OrderError(1), OrderError(2)
    shown.__context__ = hidden.__context__ = KeyError("before")
    hidden.__suppress_context__ = True
    assert likeness(sent(app, shown).__context__) == likeness(KeyError("before"))
    assert sent(app, hidden).__context__ is None


def test_causes_in_a_circle_are_followed_for_a_while(app):
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert str(sent(app, first).__cause__) == "second"


def test_a_huge_group_says_how_many_it_has_and_keeps_the_first(app):
    arrived = sent(app, ExceptionGroup("many", [ValueError(number) for number in range(5000)]))
    assert isinstance(arrived, ExceptionGroup)
    assert str(arrived) == "many (5000 sub-exceptions)"
    assert 0 < len(arrived.exceptions) < 5000


def test_the_worker_s_traceback_is_shown_behind_the_first_cause(app):
    error = OrderError(7)
    error.__cause__ = KeyError("root")
    arrived = sent(app, error)
    last = arrived.__cause__.__cause__
    assert isinstance(last, WorkerTraceback)
    assert "in run" in last.text
    text = "".join(traceback.format_exception(arrived))
    assert text.index('"""') < text.rindex("KeyError: 'root'") < text.rindex("OrderError: order 7 failed")


@pytest.fixture
def unknown(monkeypatch):
    """Forgets a class, as if the caller had not its module."""

    def forget(*classes: type) -> None:
        for cls in classes:
            monkeypatch.delattr(sys.modules[__name__], cls.__name__)

    return forget


def test_a_class_that_the_caller_has_not_arrives_under_its_name(app, unknown):
    error = OrderError(7)
    error.add_note("Try again.")
    task_id = fail(app, error)
    unknown(OrderError)
    arrived = received(app, task_id)
    assert type(arrived).__name__ == "OrderError"
    assert type(arrived).__module__ == __name__
    assert (str(arrived), arrived.args, arrived.order) == ("order 7 failed", ("order 7 failed",), 7)
    assert isinstance(arrived, ValueError), "the nearest base class that is there"
    assert arrived.__notes__ == ["Try again."]
    assert isinstance(arrived.__cause__, WorkerTraceback)


def test_a_class_that_the_caller_has_not_says_what_it_said(app, unknown):
    task_id = fail(app, KeywordError(code=5))
    unknown(KeywordError)
    arrived = received(app, task_id)
    assert (str(arrived), arrived.code, arrived.args) == ("failed with 5", 5, ("code", 5))
    again = pickle.loads(pickle.dumps(arrived))
    assert (str(again), again.code, type(again).__name__) == ("failed with 5", 5, "KeywordError")
    assert str(copy.copy(arrived)) == "failed with 5"


def test_a_group_that_the_caller_has_not_is_a_group(app, unknown):
    task_id = fail(app, ERRORS["own group"])
    unknown(Failures, OrderError)
    arrived = received(app, task_id)
    assert isinstance(arrived, ExceptionGroup)
    assert type(arrived).__name__ == "Failures"
    assert [type(member).__name__ for member in arrived.exceptions] == ["OrderError", "KeywordError"]


def test_what_has_arrived_can_go_on_to_another_caller(app, unknown):
    task_id = fail(app, KeywordError(code=5))
    unknown(KeywordError)
    arrived = sent(app, received(app, task_id))
    assert (type(arrived).__name__, str(arrived), arrived.code) == ("KeywordError", "failed with 5", 5)


def test_two_of_one_unknown_class_are_of_one_class(app, unknown):
    ids = [fail(app, error) for error in (OrderError(1), OrderError(2))]
    unknown(OrderError)
    assert type(received(app, ids[0])) is type(received(app, ids[1]))


@pytest.mark.parametrize("name", [name for name in ERRORS if name != "slots"])
def test_plain_celery_reads_at_least_the_text(app, plain, name):
    error = ERRORS[name]
    arrived = plain.backend.exception_to_python(
        plain.backend.decode(app.backend.encode(app.backend.prepare_exception(error)))
    )
    text = str(error.args[0]) if error.args else str(error)
    assert text in str(arrived) or repr(text)[1:-1] in str(arrived)


@pytest.mark.parametrize("name", ERRORS)
def test_what_plain_celery_has_stored_is_read(app, plain, name):
    error = ERRORS[name]
    stored = plain.backend.decode(plain.backend.encode(plain.backend.prepare_exception(error)))
    arrived = app.backend.exception_to_python(stored)
    assert type(arrived).__name__ == type(error).__name__
    str(arrived)


@pytest.mark.parametrize(
    "stored",
    [
        {"exc_module": "os", "exc_type": "system", "exc_message": ["true"]},
        {"exc_module": "builtins", "exc_type": "ValueError", "exc_message": [], "pico_celery": {"cause": 0}},
        {
            "exc_module": "builtins",
            "exc_type": "ValueError",
            "exc_message": [],
            "pico_celery": {"cause": {"exc_module": "os", "exc_type": "system", "exc_message": ["true"]}},
        },
        {"exc_module": "x", "exc_type": "Y", "exc_message": [], "pico_celery": {"bases": [["os", "system"]]}},
    ],
)
def test_nothing_but_an_exception_is_called(app, monkeypatch, stored):
    monkeypatch.setattr("os.system", lambda _: pytest.fail("called"))
    try:
        arrived = app.backend.exception_to_python(stored)
    except SecurityError:
        return
    assert isinstance(arrived, ValueError)


@pytest.mark.parametrize("details", [0, [], {"notes": 3}, {"exceptions": [{}]}, {"attributes": []}, {"bases": 7}])
def test_details_that_make_no_sense_leave_what_celery_makes_of_it(app, details):
    stored = {"exc_module": "builtins", "exc_type": "ValueError", "exc_message": ["no"], "pico_celery": details}
    assert likeness(app.backend.exception_to_python(stored)) == likeness(ValueError("no"))


def test_exceptions_nested_without_end_do_not_end_the_caller(app):
    stored: dict[str, Any] = {"exc_module": "builtins", "exc_type": "ValueError", "exc_message": ["no"]}
    for _ in range(500):
        stored = {**stored, "pico_celery": {"cause": stored}}
    assert str(app.backend.exception_to_python(stored)) == "no"


def test_arguments_of_a_task_do_not_come_with_its_retries(app):
    error = MaxRetriesExceededError("no more", task_args=("secret",), task_kwargs={"password": "secret"})
    assert "secret" not in str(app.backend.prepare_exception(error))


def test_a_revoked_task_says_so(app):
    app.backend.mark_as_revoked("revoked", "terminated")
    error = received(app, "revoked")
    assert likeness(error) == likeness(TaskRevokedError("terminated"))


def test_another_exception_that_is_handled_meanwhile_is_not_stored(app):
    try:
        OrderError()  # type: ignore[call-arg]
    except TypeError:
        app.backend.mark_as_failure("other", ValueError("other"))
    assert likeness(received(app, "other")) == likeness(ValueError("other"))


@pytest.mark.parametrize("serializer", ["json", "yaml", "pickle"])
def test_every_serializer_carries_them(serializer):
    app = Celery("tests", backend="cache+memory://", set_as_current=False)
    app.conf.update(result_serializer=serializer, accept_content=[serializer])
    store_failures_in_full(app)
    assert likeness(sent(app, OrderError(7)))[0] is OrderError


def test_the_class_and_the_url_of_the_settings_are_used():
    app = Celery("tests", backend="redis://nowhere.invalid:1/5", set_as_current=False)
    store_failures_in_full(app)
    store_failures_in_full(app)
    backend = app.backend
    assert isinstance(backend, RedisBackend)
    assert isinstance(backend, FailuresInFull)
    assert (backend.connparams["host"], backend.connparams["db"]) == ("nowhere.invalid", 5)
    assert f"{type(backend).__module__}.{type(backend).__qualname__}" == "celery.backends.redis.RedisBackend"


def test_a_backend_of_the_application_s_own_is_used():
    app = Celery("tests", set_as_current=False)
    app.backend_cls = f"{__name__}:OwnBackend+redis://nowhere.invalid:1/5"
    store_failures_in_full(app)
    assert isinstance(app.backend, OwnBackend)
    assert isinstance(app.backend, FailuresInFull)
    assert app.backend.connparams["db"] == 5


class OwnBackend(RedisBackend):
    pass


def test_the_settings_are_not_read_too_early():
    app = Celery("tests", set_as_current=False)
    app.add_defaults(lambda: pytest.fail("read"))
    store_failures_in_full(app)


def test_no_backend_stays_none():
    app = Celery("tests", set_as_current=False)
    store_failures_in_full(app)
    assert isinstance(app.backend, DisabledBackend)


def test_an_app_and_its_backend_survive_pickling(monkeypatch):
    app = Celery("tests", backend="redis://nowhere.invalid:1/5", set_as_current=False)
    store_failures_in_full(app)
    backend = pickle.loads(pickle.dumps(app.backend))
    assert isinstance(backend, FailuresInFull)
    assert pickle.loads(pickle.dumps(app)).conf.result_backend == "redis://nowhere.invalid:1/5"


class FixedError(Exception):
    def __init__(self) -> None:
        super().__init__()

    def __str__(self) -> str:
        return "always the same"


def test_plain_celery_keeps_the_class_where_that_says_it_all(app, plain):
    stored = app.backend.prepare_exception(FixedError())
    assert likeness(plain.backend.exception_to_python(stored)) == likeness(FixedError())
