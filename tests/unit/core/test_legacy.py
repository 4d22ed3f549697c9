"""What is declared and made as in pico-celery 0.2 works as it did there."""

from types import ModuleType, SimpleNamespace
from unittest.mock import Mock

import pytest
from celery import Celery
from pico_ioc import DictSource, component, configuration, init

from pico_celery import CelerySettings, celery
from pico_celery_core import send_spec, task_spec
from pico_celery_core.legacy import (
    PICO_CELERY_METHOD_META,
    PICO_CELERY_SENDER_META,
    CeleryClientInterceptor,
    CeleryFactory,
    PicoTaskRegistrar,
    send_task,
    task,
)


class Sums:
    """A task component, as 0.2 has them."""

    @task(name="legacy.add", max_retries=7)
    async def add(self, one: int, other: int) -> int:
        return one + other


@celery
class SumClient:
    @send_task("legacy.add", queue="sums")
    def add(self, one: int, other: int): ...


class Container:
    """As much of a container as a test of 0.2 provides."""

    def __init__(self, *classes: type | str) -> None:
        providers = {str(number): SimpleNamespace(concrete_class=cls) for number, cls in enumerate(classes)}
        self._locator = SimpleNamespace(_metadata=providers)

    async def aget(self, cls: type) -> object:
        return cls()


@pytest.fixture
def app() -> Celery:
    return Celery(set_as_current=False, broker="memory://", backend="cache+memory://")


def test_the_decorators_leave_the_marks_of_0_2_beside_those_of_today():
    handler, stub = getattr(Sums.add, PICO_CELERY_METHOD_META), getattr(SumClient.add, PICO_CELERY_SENDER_META)
    assert handler == {"name": "legacy.add", "options": {"max_retries": 7}}
    assert stub == {"name": "legacy.add", "options": {"queue": "sums"}}
    assert task_spec(Sums.add).name == send_spec(SumClient.add).name == "legacy.add"


def test_a_function_outside_a_class_is_only_marked():
    @task(name="legacy.alone")
    async def alone(value: int) -> int:
        return value

    @send_task(name="legacy.alone", queue="high")
    def send() -> None: ...

    assert getattr(alone, PICO_CELERY_METHOD_META) == {"name": "legacy.alone", "options": {}}
    assert getattr(send, PICO_CELERY_SENDER_META)["options"] == {"queue": "high"}
    assert task_spec(alone) is send_spec(send) is None


@pytest.mark.parametrize("target", [42, Sums])
def test_the_decorators_refuse_what_they_refused(target):
    with pytest.raises(TypeError, match="can only decorate methods or functions"):
        send_task("legacy.add")(target)
    with pytest.raises(TypeError, match="can only be applied to async methods"):
        task("legacy.add")(target)


def test_a_handler_and_a_stub_of_0_2_work_in_a_container_of_today():
    module = ModuleType("legacy_application")
    vars(module).update(Sums=component(scope="prototype")(Sums), SumClient=SumClient)
    settings = {"celery": {"broker_url": "memory://", "backend_url": "cache+memory://"}}
    container = init(modules=["pico_celery", module], config=configuration(DictSource(settings)))

    app = container.get(Celery)
    assert app.tasks["legacy.add"].apply((1, 2)).get() == 3
    assert container.get(SumClient).add(1, 2).app is app


def test_an_interceptor_that_is_made_by_hand_sends():
    app, call_next = Mock(), Mock()
    call = SimpleNamespace(cls=SumClient, name="add", args=(1,), kwargs={"other": 2})

    sent = CeleryClientInterceptor(app).invoke(call, call_next)

    app.send_task.assert_called_once_with("legacy.add", args=(1,), kwargs={"other": 2}, queue="sums")
    assert sent is app.send_task.return_value
    call_next.assert_not_called()


def test_an_interceptor_that_is_made_by_hand_lets_other_methods_through():
    call_next = Mock()
    call = SimpleNamespace(cls=SumClient, name="nothing")

    assert CeleryClientInterceptor(Mock()).invoke(call, call_next) is call_next.return_value
    call_next.assert_called_once_with(call)


def test_a_factory_that_is_made_by_hand_makes_an_app():
    settings = CelerySettings(broker_url="memory://", backend_url="rpc://", task_track_started=False)
    app = CeleryFactory().create_celery_app(settings)
    assert (app.conf.broker_url, app.conf.result_backend) == ("memory://", "rpc://")
    assert app.conf.task_track_started is False


def test_a_registrar_that_is_made_by_hand_registers_and_runs(app):
    PicoTaskRegistrar(container=Container(Sums, "no class"), celery_app=app).register_tasks()
    assert app.tasks["legacy.add"].run(1, 2) == 3
    assert app.tasks["legacy.add"].max_retries == 7


async def test_it_runs_on_a_running_event_loop_too(app):
    PicoTaskRegistrar(Container(Sums), app).register_tasks()
    assert app.tasks["legacy.add"].run(1, other=2) == 3


def test_it_says_which_component_cannot_be_resolved(app):
    class Broken(Container):
        async def aget(self, cls: type) -> object:
            raise LookupError("nothing there")

    PicoTaskRegistrar(Broken(Sums), app).register_tasks()
    with pytest.raises(RuntimeError, match=r"Failed to resolve component Sums for .* add\(\): nothing there"):
        app.tasks["legacy.add"].run(1, 2)


def test_a_container_without_a_locator_has_no_tasks(app):
    PicoTaskRegistrar(object(), app).register_tasks()
    assert "legacy.add" not in app.tasks
