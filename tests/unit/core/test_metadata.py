"""What a decorator leaves on a function, and how it is read back."""

import dataclasses

import pytest

from pico_celery_core import SendSpec, TaskSpec, handlers, send_spec, send_task, stubs, task, task_spec
from pico_celery_core.errors import DeclarationError


class Base:
    @task("base.run", queue="slow")
    async def run(self) -> None: ...

    @send_task("base.send", priority=3)
    def send(self) -> None: ...

    def plain(self) -> None: ...


class Child(Base):
    @task("child.extra")
    async def extra(self) -> None: ...


class Silenced(Base):
    async def run(self) -> None: ...

    def send(self) -> None: ...


def test_a_decorated_method_carries_its_spec():
    assert task_spec(Base.run) == TaskSpec("base.run", {"queue": "slow"})
    assert send_spec(Base.send) == SendSpec("base.send", {"priority": 3})


def test_a_plain_method_carries_none():
    assert task_spec(Base.plain) is None
    assert send_spec(Base.plain) is None


def test_handlers_and_stubs_are_kept_apart():
    assert list(handlers(Base)) == [("run", TaskSpec("base.run", {"queue": "slow"}))]
    assert list(stubs(Base)) == [("send", SendSpec("base.send", {"priority": 3}))]


def test_inherited_methods_count():
    assert {name: spec.name for name, spec in handlers(Child)} == {"run": "base.run", "extra": "child.extra"}


def test_a_method_overridden_without_decorator_is_no_task_any_more():
    assert list(handlers(Silenced)) == []
    assert list(stubs(Silenced)) == []


def test_looking_for_methods_runs_no_property():
    class Touchy:
        @property
        def boom(self) -> None:
            raise AssertionError("a property ran")

        @task("touchy.run")
        async def run(self) -> None: ...

    assert [name for name, _ in handlers(Touchy)] == ["run"]


@pytest.mark.parametrize("kind", [staticmethod, classmethod])
def test_static_and_class_methods_are_refused_where_the_decorator_stands_below(kind):
    class Tasks:
        @kind
        @task("tasks.run")
        async def run(self) -> None: ...

    class Client:
        @kind
        @send_task("tasks.run")
        async def run(self) -> None: ...

    problem = f"it is a {kind.__name__}\\. Make it a plain method with self"
    with pytest.raises(DeclarationError, match=rf"@task\('tasks.run'\) on .*Tasks\.run: {problem}"):
        list(handlers(Tasks))
    with pytest.raises(DeclarationError, match=rf"@send_task\('tasks.run'\) on .*Client\.run: {problem}"):
        list(stubs(Client))
    assert list(handlers(Client)) == list(stubs(Tasks)) == []


def test_a_spec_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        task_spec(Base.run).name = "other"  # type: ignore[misc, union-attr]


def test_a_spec_does_not_follow_later_changes_of_the_options_it_was_given():
    options = {"queue": "slow"}

    class Tasks:
        @task("tasks.run", **options)
        async def run(self) -> None: ...

    options["queue"] = "fast"
    assert task_spec(Tasks.run).options == {"queue": "slow"}
