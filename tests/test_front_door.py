"""The front door: what each package offers, and that naming any of them wires all that is installed."""

import importlib
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType

import pico_boot
import pico_ioc
import pytest
from celery import Celery
from pico_ioc import DictSource, PicoContainer, component, configuration

import pico_celery.errors
import pico_celery.testing
import pico_celery_client.testing
import pico_celery_core.errors
import pico_celery_worker.testing
from pico_celery import (
    CeleryClient,
    CeleryClientInterceptor,
    PicoTaskRegistrar,
    TaskContext,
    _forwarding,
    celery,
    send_task,
    task,
)

PUBLIC = {
    "pico_celery_core": [
        "CeleryFactory",
        "CelerySettings",
        "ContextVariableInterceptor",
        "Progress",
        "SendOptions",
        "SendSpec",
        "Sensitive",
        "TaskOptions",
        "TaskSpec",
        "handlers",
        "schedule",
        "send_spec",
        "send_task",
        "stubs",
        "task",
        "task_spec",
    ],
    "pico_celery_client": [
        "CeleryClient",
        "CeleryClientInterceptor",
        "OutgoingTask",
        "SendInterceptor",
        "TaskResult",
        "TaskSignature",
        "as_completed",
        "cancel_all",
        "celery",
        "gather_results",
        "partial_signature",
        "send_all",
        "send_all_sync",
        "signature",
        "with_options",
    ],
    "pico_celery_worker": [
        "AsyncTask",
        "DeadLetter",
        "DeadLetters",
        "PicoTaskRegistrar",
        "TaskContext",
        "TaskInterceptor",
        "TaskLogFilter",
        "run_blocking",
    ],
}
# What the core has for its siblings is not behind the front door.
BEHIND = {"SendSpec", "TaskSpec", "handlers", "send_spec", "stubs", "task_spec"}
FORWARDED = {name: home for home, names in PUBLIC.items() for name in names if name not in BEHIND}
PUBLIC["pico_celery"] = sorted(FORWARDED)


@pytest.mark.parametrize("package", PUBLIC)
def test_exactly_these_names_are_public(package):
    module = importlib.import_module(package)
    assert module.__all__ == PUBLIC[package]
    assert module.__all__ == sorted(module.__all__)


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_name_can_be_imported_and_is_listed(package):
    module = importlib.import_module(package)
    for name in module.__all__:
        assert getattr(module, name) is not None
    assert set(module.__all__) <= set(dir(module))


@pytest.mark.parametrize("package", PUBLIC)
def test_every_package_has_a_version(package):
    assert importlib.import_module(package).__version__.count(".") == 2


@pytest.mark.parametrize(("name", "home"), FORWARDED.items())
def test_a_forwarded_name_is_the_same_object(name, home):
    assert getattr(pico_celery, name) is getattr(importlib.import_module(home), name)


@pytest.mark.parametrize("package", ["pico_celery", "pico_celery_core"])
def test_an_unknown_name_is_an_ordinary_attribute_error(package):
    module = importlib.import_module(package)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        _ = module.nothing
    assert not hasattr(module, "nothing")


@pytest.mark.parametrize(
    ("name", "distribution"),
    [("PicoTaskRegistrar", "pico-celery-worker"), ("celery", "pico-celery-client")],
)
def test_a_name_of_a_package_that_is_not_installed_says_what_to_install(monkeypatch, name, distribution):
    monkeypatch.setattr(_forwarding, "find_spec", lambda _: None)
    monkeypatch.delattr(pico_celery, name, raising=False)
    with pytest.raises(ImportError) as error:
        getattr(pico_celery, name)
    assert str(error.value) == f"{name} needs {distribution}: pip install {distribution}"


def test_the_front_door_loads_a_package_only_when_it_is_asked_for():
    code = (
        "import sys, pico_celery; pico_celery.task\n"
        "assert 'pico_celery_client' not in sys.modules\n"
        "from pico_celery import celery\n"
        "assert 'pico_celery_client' in sys.modules and 'pico_celery_worker' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_errors_and_test_doubles_are_behind_the_front_door_too():
    assert pico_celery.errors.__all__ == pico_celery_core.errors.__all__
    for name in pico_celery.errors.__all__:
        assert getattr(pico_celery.errors, name) is getattr(pico_celery_core.errors, name)
    for name in pico_celery.testing.__all__:
        homes = [home for home in (pico_celery_client.testing, pico_celery_worker.testing) if name in home.__all__]
        assert [getattr(home, name) for home in homes] == [getattr(pico_celery.testing, name)]
    doubles = {*pico_celery_client.testing.__all__, *pico_celery_worker.testing.__all__}
    assert doubles == {*pico_celery.testing.__all__}


def test_a_test_double_of_a_package_that_is_not_installed_says_what_to_install(monkeypatch):
    monkeypatch.setattr(_forwarding, "find_spec", lambda _: None)
    monkeypatch.delattr(pico_celery.testing, "TaskRunner", raising=False)
    with pytest.raises(ImportError, match=r"TaskRunner needs pico-celery-worker: pip install pico-celery-worker"):
        _ = pico_celery.testing.TaskRunner


# What 0.2 had

DEPRECATED = {
    "client": ["CeleryClient", "CeleryClientInterceptor", "PICO_CELERY_METHOD_META", "PICO_CELERY_SENDER_META"],
    "config": ["CelerySettings"],
    "decorators": ["PICO_CELERY_METHOD_META", "task"],
    "factory": ["CeleryFactory", "CelerySettings"],
    "registrar": ["PICO_CELERY_METHOD_META", "PicoTaskRegistrar"],
}
DEPRECATED["client"] += ["celery", "send_task"]


@pytest.mark.parametrize(("module", "name"), [(module, name) for module in DEPRECATED for name in DEPRECATED[module]])
def test_a_name_of_0_2_is_where_it_was_and_warns(module, name):
    old = importlib.import_module(f"pico_celery.{module}")
    with pytest.warns(DeprecationWarning, match=rf"pico_celery\.{module}\.{name} is deprecated.*: use ") as caught:
        found = getattr(old, name)
    assert found is not None
    assert caught[0].filename == __file__
    assert name not in dir(old)  # a container that scans the package finds each component once


def test_a_name_that_0_2_had_not_is_an_ordinary_attribute_error():
    old = importlib.import_module("pico_celery.config")
    with pytest.raises(AttributeError, match=r"module 'pico_celery.config' has no attribute 'Nothing'"):
        _ = old.Nothing


# Wiring

Init = Callable[..., PicoContainer]


@celery
class Client(CeleryClient):
    @send_task("front_door.hello")
    def hello(self) -> str: ...


@component
class Tasks:
    @task("front_door.hello")
    async def hello(self) -> str:
        return "hello"


@pytest.fixture(params=["pico_celery", "pico_celery_client", "pico_celery_worker", "pico_boot"])
def container(request: pytest.FixtureRequest) -> PicoContainer:
    """A container of the application and one of our packages, or of what pico-boot finds."""
    application = ModuleType("application")
    vars(application).update(Client=Client, Tasks=Tasks)
    config = configuration(DictSource({"celery": {"broker_url": "memory://", "backend_url": "cache+memory://"}}))
    if request.param == "pico_boot":
        return pico_boot.init(modules=[application], config=config)
    return pico_ioc.init(modules=[request.param, application], config=config)


def test_naming_any_package_wires_all(container):
    app = container.get(Celery)
    assert app.conf.broker_url == "memory://"
    assert isinstance(container.get(CeleryClientInterceptor), CeleryClientInterceptor)
    assert isinstance(container.get(PicoTaskRegistrar), PicoTaskRegistrar)
    assert container.get(Client).hello().app is app
    assert TaskContext in container.keys()
    assert app.tasks["front_door.hello"].apply().get() == "hello"
