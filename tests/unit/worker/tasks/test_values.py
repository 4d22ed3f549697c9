"""Handlers get the types that they declare, and their values are plain data."""

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import pytest
from celery import Celery, Task
from pico_ioc import component
from pydantic import BaseModel, SecretStr

from pico_celery_core import task
from pico_celery_core.errors import HandlerArgumentsError, LossyModelError, ResultTypeError
from pico_celery_core.sensitive import Sensitive
from pico_celery_worker.tasks.values import untyped
from pico_celery_worker.testing import TaskRunner

if TYPE_CHECKING:
    from decimal import Decimal as Money


class Parcel(BaseModel):
    weight: float


made: list[type] = []


@component(scope="prototype")
class Parcels:
    def __init__(self) -> None:
        made.append(type(self))

    @task("parcels.split", autoretry_for=(Exception,), max_retries=3)
    async def split(self, parcel: Parcel, pause: timedelta = timedelta()) -> list[Parcel]:
        assert type(parcel) is Parcel
        assert type(pause) is timedelta
        return [Parcel(weight=parcel.weight / 2)] * 2

    @task("parcels.raw", typed=False)
    async def raw(self, parcel: Parcel) -> str:
        return type(parcel).__name__

    @task("parcels.celerys", pydantic=True)
    async def celerys(self, parcel: Parcel) -> Parcel:
        return Parcel(weight=parcel.weight + 1)

    @task("parcels.again", bind=True)
    async def again(self, this: Task, parcel: Parcel) -> float:
        if not this.request.retries:
            this.retry(args=(Parcel(weight=parcel.weight + 1),), countdown=0)
        return parcel.weight

    @task("parcels.wrong")
    async def wrong(self) -> Parcel:
        return 3  # type: ignore[return-value]

    @task("parcels.secret")
    async def secret(self, pin: Annotated[int, Sensitive], key: SecretStr | None = None) -> None: ...

    @task("parcels.priced")
    async def priced(self, price: "Money") -> None: ...


@pytest.fixture
def runner(container, make_app) -> Iterator[TaskRunner]:
    with TaskRunner(container(Parcels, on=make_app(task_always_eager=False))) as runner:
        yield runner


@pytest.fixture
def sent(runner) -> Celery:
    """The app of the runner, by which the tests send plain messages."""
    return runner.app


def test_arguments_arrive_as_declared_and_the_value_is_plain_data(sent):
    result = sent.send_task("parcels.split", [{"weight": 4}], {"pause": "PT5M"})
    assert result.get(timeout=60) == [{"weight": 2.0}, {"weight": 2.0}]


def test_the_runner_sends_and_returns_what_the_handler_declares(runner):
    assert runner.run(Parcels.split, Parcel(weight=4), pause=timedelta(minutes=5)) == [Parcel(weight=2)] * 2


def test_what_does_not_fit_never_makes_the_component_and_is_not_tried_again(sent):
    made.clear()
    result = sent.send_task("parcels.split", [{"weight": "heavy"}])
    with pytest.raises(HandlerArgumentsError, match=r"the argument 'parcel': weight: Input should be a valid number"):
        result.get(timeout=60)
    assert made == []


@pytest.mark.parametrize(("args", "problem"), [(["s3cret"], "'pin': does not fit"), ([1, {"s3cret": 1}], "'key'")])
def test_a_sensitive_argument_that_does_not_fit_is_not_shown(sent, args, problem):
    result = sent.send_task("parcels.secret", args)
    with pytest.raises(HandlerArgumentsError, match=problem) as raised:
        result.get(timeout=60)
    assert "s3cret" not in f"{raised.value}{result.traceback}"


def test_typed_false_and_pydantic_true_leave_values_to_others(sent):
    assert sent.send_task("parcels.raw", [{"weight": 4}]).get(timeout=60) == "dict"
    assert sent.send_task("parcels.celerys", [{"weight": 4}]).get(timeout=60) == {"weight": 5.0}


def test_the_setting_switches_it_off(container, make_app):
    app = make_app(task_always_eager=False, pico_typed_values=False)
    with TaskRunner(container(Parcels, on=app)):
        assert app.tasks["parcels.split"].values is None


def test_a_retry_sends_its_arguments_as_plain_data(sent):
    assert sent.send_task("parcels.again", [{"weight": 4}]).get(timeout=60) == 5.0


def test_a_value_that_the_handler_does_not_declare_fails_its_task(sent):
    with pytest.raises(ResultTypeError, match="does not fit Parcel, which its handler declares"):
        sent.send_task("parcels.wrong").get(timeout=60)


def test_a_task_that_a_worker_sends_takes_values_of_the_declared_types(sent):
    result = sent.tasks["parcels.split"].delay(Parcel(weight=4), pause=timedelta(minutes=5))
    assert result.get(timeout=60) == [{"weight": 2.0}] * 2
    with pytest.raises(HandlerArgumentsError, match="'parcel'"):
        sent.tasks["parcels.split"].delay({"weight": "heavy"})
    with pytest.raises(LossyModelError, match="'key', a SecretStr"):
        sent.tasks["parcels.secret"].delay(1, SecretStr("x"))


def test_a_call_that_is_no_message_returns_what_the_handler_returns(app, container):
    container(Parcels)
    declared = app.tasks["parcels.split"]
    assert declared.apply(args=[{"weight": 4}]).get() == [{"weight": 2.0}] * 2  # eager, as a message would be
    assert declared(Parcel(weight=4)) == [Parcel(weight=2)] * 2


def test_annotations_that_give_no_type_are_told(sent):
    def told(name: str) -> list[str]:
        return [found.problem for found in untyped(sent.tasks[name].handler, sent)]

    assert told("parcels.split") == told("parcels.again") == told("parcels.celerys") == []
    (problem,) = told("parcels.priced")
    assert problem.startswith("The annotation of its parameter 'price', 'Money', cannot be evaluated")
