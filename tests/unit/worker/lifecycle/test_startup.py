"""What a worker says at its start of what would go wrong in silence."""

import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import click
import pytest
from celery import Celery, signals
from celery.exceptions import ImproperlyConfigured
from pico_ioc import PicoContainer, component

from pico_celery import task
from pico_celery_core.errors import ClosedScopeError, DeclarationError
from pico_celery_worker.lifecycle import startup
from pico_celery_worker.lifecycle.startup import refuse_options, refuse_to_start, warn_of_oversights
from pico_celery_worker.tasks.runtime import Runtime, runtime_of
from tests.unit.worker.applications import application
from tests.unit.worker.tasks import postponed

Started = Callable[..., list[str]]


@component(scope="prototype")
class Tasks:
    @task("startup.run")
    async def run(self) -> None: ...


class Forgotten:
    @task("startup.forgotten")
    async def run(self) -> None: ...


@component(scope="request")
class PerRequest:
    @task("startup.request")
    async def run(self) -> None: ...


@component(scope="prototyp")
class Misspelt:
    @task("startup.misspelt")
    async def run(self) -> None: ...


def plain() -> None:
    """A task as Celery has them without this project."""


@pytest.fixture
def started(caplog: pytest.LogCaptureFixture) -> Iterator[Started]:
    """Start a worker of an application, and return what it warns of."""
    apps: list[Celery] = []

    def start(*components: Any, pool: str = "gevent", **settings: Any) -> list[str]:
        container: PicoContainer = application(*components, settings=settings)
        app: Celery = container.get(Celery)
        apps.append(app)
        runtime = runtime_of(app)
        assert runtime is not None
        caplog.clear()
        with caplog.at_level(logging.WARNING, startup.logger.name):
            refuse_to_start(runtime)
            warn_of_oversights(SimpleNamespace(app=app, concurrency=2), pool, runtime)
        return [record.getMessage() for record in caplog.records]

    yield start
    for app in apps:
        app.close()


def test_an_ordinary_worker_has_nothing_to_say(started: Started):
    assert started(Tasks) == []


def test_a_worker_without_tasks(started: Started):
    [warning] = started()
    assert warning == (
        "This worker has no tasks: its container has no component with a @task method. "
        "Did you mean to name the modules of your task components in init(modules=[...])?"
    )


def test_a_worker_without_tasks_whose_components_were_imported(started: Started, declare_again):
    declare_again(PerRequest)
    [warning] = started()
    assert warning.endswith(f"Did you mean to name the modules of {__name__}.PerRequest in init(modules=[...])?")


def test_a_worker_of_plain_tasks_alone(started: Started, make_app, container, caplog):
    app = make_app()
    app.task(name="plain", shared=False)(plain)
    with caplog.at_level(logging.WARNING, startup.logger.name):
        warn_of_oversights(SimpleNamespace(app=app, concurrency=2), "gevent", Runtime(container(on=app), []))
    assert not caplog.records


def test_a_class_that_is_no_component(started: Started, declare_again):
    declare_again(Forgotten)
    [warning] = started(Tasks)
    assert warning == (
        f"{__name__}.Forgotten declares 'startup.forgotten', and is no component: no worker runs that. "
        "Did you mean @component(scope='prototype') above the class?"
    )


def test_a_scope_that_no_worker_opens(started: Started):
    [warning] = started(PerRequest)
    assert warning == (
        f"A task needs {__name__}.PerRequest, which has the scope 'request', which a worker does not open: "
        "each execution fails. Did you mean 'prototype' or 'task'?"
    )


def test_a_scope_that_there_is_not_stops_the_worker(started: Started, caplog):
    with pytest.raises(ClosedScopeError, match=r"'prototyp', which the container does not know.*mean 'prototype'"):
        started(Misspelt)
    assert "The worker cannot start: A task needs" in caplog.text


def test_an_annotation_that_may_be_a_models_and_cannot_be_evaluated_stops_the_worker(started: Started, caplog):
    with pytest.raises(DeclarationError, match="'Unseen', cannot be evaluated"):
        started(postponed.Model)
    assert "The worker cannot start: @task('postponed.model') on " in caplog.text


# What is left out on the command line


@pytest.fixture
def typed(started: Started) -> Callable[..., list[str]]:
    """Start a worker within a command, with arguments."""

    def start(*arguments: str, pool: str, **settings: Any) -> list[str]:
        found: list[str] = []

        @click.command()
        @click.option("-P", "--pool", default="prefork")
        @click.option("-c", "--concurrency")
        @click.option("--autoscale")
        def worker(**_: Any) -> None:
            found.extend(started(Tasks, pool=pool, **settings))

        worker.main(list(arguments), standalone_mode=False)
        return found

    return start


ONE_AT_A_TIME = "The prefork pool runs one task at a time in a process; -P gevent runs many"
FORGOTTEN = (
    "No pool was chosen, so this is the prefork pool, which runs one task at a time in a process, and 2 at once at "
    "most. Did you mean -P gevent, which runs many?"
)


def test_without_a_pool_it_is_prefork(typed):
    assert typed(pool="prefork") == [FORGOTTEN]
    assert typed("-P", "prefork", pool="prefork") == [ONE_AT_A_TIME]
    assert typed(pool="prefork", worker_pool="prefork") == [ONE_AT_A_TIME]


@pytest.mark.parametrize(
    ("pool", "number"), [("gevent", 1000), ("eventlet", 1000), ("thread", 100), ("prefork", None), ("solo", None)]
)
def test_without_a_concurrency_it_is_the_number_of_cores(typed, pool, number):
    warning = (
        "No concurrency was chosen, so 2 tasks run at once at most, as many as the machine has cores. "
        f"Did you mean -c {number}?"
    )
    assert (warning in typed("-P", pool, pool=pool)) is (number is not None)
    for arguments in (("-c", "2"), ("--autoscale", "9,1")):
        assert warning not in typed("-P", pool, *arguments, pool=pool)
    assert warning not in typed("-P", pool, pool=pool, worker_concurrency=7)


@pytest.mark.parametrize("option", ["--max-tasks-per-child", "--max-memory-per-child", "--pool-start-method"])
def test_options_of_processes_stop_a_worker_without_processes(option, caplog):
    @click.command()
    @click.option(option)
    @click.option("-P", "--pool")
    def worker(pool: str, **_: Any) -> None:
        refuse_options(pool)

    worker.main(["-P", "gevent"], standalone_mode=False)
    worker.main(["-P", "prefork", option, "9"], standalone_mode=False)
    refuse_options("gevent")  # no command has started it
    problem = f"{option} cannot be used with the gevent pool, which has no child processes"
    with pytest.raises(ImproperlyConfigured, match=problem):
        worker.main(["-P", "gevent", option, "9"], standalone_mode=False)
    assert f"The worker cannot start: {problem}" in caplog.text


def test_a_worker_that_no_command_has_started_was_given_what_it_has(started: Started):
    assert started(Tasks, pool="prefork") == [ONE_AT_A_TIME]


# Another app


def test_a_worker_of_another_app_without_tasks(started: Started, caplog):
    started(Tasks)
    with Celery("shop", set_as_current=False) as app, caplog.at_level(logging.WARNING):
        signals.celeryd_after_setup.send(sender="worker", instance=SimpleNamespace(app=app))
        [warning] = caplog.messages
        assert warning == (
            "This worker has no tasks: its app 'shop' is not the one of the container. "
            "Did you mean app = container.get(Celery), in the module that -A names?"
        )
        caplog.clear()
        app.task(name="plain", shared=False)(plain)
        signals.celeryd_after_setup.send(sender="worker", instance=SimpleNamespace(app=app))
        assert not caplog.records
