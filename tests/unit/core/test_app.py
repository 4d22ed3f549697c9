"""CeleryFactory: the one Celery app, unless the application brings its own."""

from types import ModuleType
from typing import Any

import pytest
from celery import Celery
from pico_ioc import (
    ComponentCreationError,
    DictSource,
    PicoContainer,
    component,
    configuration,
    factory,
    init,
    provides,
)

from pico_celery_core import CelerySettings
from pico_celery_core.errors import SettingsError

CONFIG = configuration(DictSource({"celery": {"broker_url": "memory://", "backend_url": "cache+memory://"}}))


def container(*own: type, ours_last: bool = False, overrides: dict[Any, Any] | None = None) -> PicoContainer:
    application = ModuleType("application")
    vars(application).update({cls.__name__: cls for cls in own})
    modules = ["pico_celery_core", application]
    return init(modules=modules[::-1] if ours_last else modules, config=CONFIG, overrides=overrides)


@factory
class OwnFactory:
    @provides(Celery)
    def make(self) -> Celery:
        return Celery("own", broker="amqp://own", set_as_current=False)


@component
class OwnApp(Celery):
    def __init__(self) -> None:
        super().__init__("own", broker="amqp://own", set_as_current=False)


@component(scope="singleton", name="main_app")
class NamedApp(Celery):
    def __init__(self) -> None:
        super().__init__("own", broker="amqp://own", set_as_current=False)


@component
class NeedsApp:
    def __init__(self, app: Celery) -> None:
        self.app = app


def test_the_app_has_the_settings_of_the_configuration():
    app = container().get(Celery)
    assert isinstance(app, Celery)
    assert (app.conf.broker_url, app.conf.result_backend) == ("memory://", "cache+memory://")
    assert app.conf.task_track_started is True


def test_there_is_one_app():
    made = container(NeedsApp)
    assert made.get(NeedsApp).app is made.get(Celery)


@pytest.mark.parametrize("ours_last", [False, True])
@pytest.mark.parametrize("own", [OwnFactory, OwnApp, NamedApp])
def test_the_applications_own_app_wins_whichever_is_found_first(own, ours_last):
    made = container(own, NeedsApp, ours_last=ours_last)
    assert made.get(Celery).main == "own"
    assert made.get(NeedsApp).app.conf.broker_url == "amqp://own"


@pytest.mark.parametrize("own", [OwnApp, NamedApp])
def test_an_app_that_is_a_component_is_one_object_under_both_names(own):
    made = container(own, NeedsApp)
    assert made.get(NeedsApp).app is made.get(own if own is OwnApp else "main_app")


def test_an_override_wins():
    own = Celery("override", set_as_current=False)
    assert container(NeedsApp, overrides={Celery: own}).get(NeedsApp).app is own


def test_an_override_wins_over_the_applications_own_app():
    own = Celery("override", set_as_current=False)
    assert container(OwnFactory, NeedsApp, overrides={Celery: own}).get(NeedsApp).app is own


def test_the_applications_own_settings_object_wins():
    @factory
    class OwnSettings:
        @provides(CelerySettings)
        def make(self) -> CelerySettings:
            return CelerySettings(broker_url="amqp://own")

    assert container(OwnSettings).get(Celery).conf.broker_url == "amqp://own"


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("task_ack_late", True, "Did you mean 'task_acks_late'?"),
        ("broker_url", "rabbit://mq", "Did you mean amqp://?"),
        ("pico_cancel_timeout", "soon", "Give a number of seconds."),
    ],
)
def test_a_wrong_setting_is_shown_without_a_wrapper(setting, value, told):
    """However deep in the container it is read; pico-ioc's wrapper is still what it can be caught as."""

    @component
    class Service:
        def __init__(self, app: Celery) -> None: ...

    application = ModuleType("application")
    vars(application)["Service"] = Service
    with pytest.raises(SettingsError) as error:
        init(modules=["pico_celery", application], config=configuration(DictSource({"celery": {setting: value}})))
    assert str(error.value).startswith(f"The setting {setting!r} under the prefix 'celery' ")
    assert str(error.value).endswith(told)
    assert isinstance(error.value, ComponentCreationError)
    assert type(error.value).__name__ == "SettingsError"
