"""What a container lacks for its tasks to run, though it starts."""

import abc
from types import ModuleType
from typing import Any

import pytest
from pico_ioc import component, factory, provides

from pico_celery import task
from pico_celery_worker.container.oversights import closed_scopes, undeclared_components, unlisted_components
from tests.unit.worker.containers import bare_container

# Scopes


def closed(*components: Any, root: Any) -> list[tuple[str, bool, str]]:
    found = closed_scopes(bare_container(*components), [root])
    return [(each.scope, each.is_known, each.suggestion) for each in found]


@pytest.mark.parametrize("scope", ["singleton", "prototype", "task"])
def test_a_scope_that_is_open(scope):
    @component(scope=scope)
    class Tasks: ...

    assert closed(Tasks, root=Tasks) == []


@pytest.mark.parametrize(
    ("scope", "is_known", "suggestion"),
    [
        ("prototyp", False, "prototype"),
        ("tasks", False, "task"),
        ("per execution", False, ""),
        ("request", True, ""),
        ("session", True, ""),
        ("transaction", True, ""),
    ],
)
def test_a_scope_that_is_not(scope, is_known, suggestion):
    @component(scope=scope)
    class Tasks: ...

    assert closed(Tasks, root=Tasks) == [(scope, is_known, suggestion)]


@component(scope="request")
class User: ...


@component(scope="prototype")
class Orders:
    def __init__(self, user: User) -> None: ...


@component(scope="prototype")
class Unneeded:
    def __init__(self, user: User | None = None) -> None: ...


@component(scope="prototype")
class Everything:
    def __init__(self, users: list[User]) -> None: ...


@pytest.mark.parametrize("needed", [Orders, Everything])
def test_a_component_deeper_down_counts(needed):
    @component(scope="prototype")
    class Tasks:
        def __init__(self, needed: needed) -> None: ...

    [found] = closed_scopes(bare_container(Tasks, needed, User), [Tasks, needed])
    assert found.component == f"{__name__}.User"
    assert found.problem == (
        f"A task needs {__name__}.User, which has the scope 'request', which a worker does not open: "
        "each execution fails."
    )
    assert found.hint == "Did you mean 'prototype' or 'task'?"


def test_what_a_task_can_do_without_does_not_count():
    assert closed(Unneeded, User, root=Unneeded) == []
    assert closed(Orders, User, Unneeded, root=Unneeded) == []


# Classes


class Forgotten:
    @task("forgotten.one")
    async def one(self) -> None: ...

    @task("forgotten.two")
    async def two(self) -> None: ...

    class Inner:
        @task("forgotten.inner")
        async def inner(self) -> None: ...


class Base:
    @task("base")
    async def run(self) -> None: ...


@component(scope="prototype")
class Child(Base): ...


class Abstract(abc.ABC):
    @task("abstract")
    async def run(self) -> None:
        self.work()

    @abc.abstractmethod
    def work(self) -> None: ...


class Made:
    @task("made")
    async def run(self) -> None: ...


@factory
class Makers:
    @provides(Made, scope="prototype")
    def made(self) -> Made:
        return Made()


@pytest.fixture(autouse=True)
def _declared(declare_again):
    declare_again(Forgotten, Forgotten.Inner, Base, Abstract, Made)


def test_classes_that_are_no_components():
    bare_container(Child, Makers)
    first, second = undeclared_components()
    assert (first.cls, first.tasks) == (f"{__name__}.Forgotten.Inner", ("forgotten.inner",))
    assert second.problem == (
        f"{__name__}.Forgotten declares 'forgotten.one', 'forgotten.two', and is no component: no worker runs that."
    )
    assert second.hint == "Did you mean @component(scope='prototype') above the class?"


def test_classes_of_functions_and_of_modules_that_are_gone_are_left_out(declare_again):
    class Local:
        @task("local")
        async def run(self) -> None: ...

    gone = type("Gone", (), {"run": Local.run})
    module = ModuleType("gone")
    vars(module)["Gone"] = gone
    bare_container(Child, Makers)
    assert {found.cls for found in undeclared_components()} == {
        f"{__name__}.Forgotten",
        f"{__name__}.Forgotten.Inner",
    }


@component(scope="prototype")
class Unlisted:
    @task("unlisted")
    async def run(self) -> None: ...


def test_components_whose_module_no_container_was_given(declare_again):
    declare_again(Unlisted)
    bare_container(Child, Makers)
    assert unlisted_components() == [f"{__name__}.Unlisted"]
    assert f"{__name__}.Unlisted" not in {found.cls for found in undeclared_components()}
