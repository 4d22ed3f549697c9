"""What an app's tasks are and need is told as the worker will do it."""

from typing import Annotated

import pytest
from celery import Celery
from pico_ioc import Qualifier, component, provides

from pico_celery import TaskContext, task
from pico_celery_worker.cli.inspection import Dependency, TaskDescription, inspect_app
from tests.unit.worker.applications import app_of, application


@component
class Clock: ...


@component(lazy=True)
class Pool:
    def __init__(self, clock: Clock) -> None: ...

    async def __ainit__(self) -> None: ...


@component(scope="prototype")
class Users:
    def __init__(self, pool: Pool, clock: Clock) -> None: ...


@component(scope="prototype")
class UserTasks:
    def __init__(self, users: Users, pool: Pool, context: TaskContext) -> None: ...

    @task("users.create", max_retries=3)
    async def create(self, name: str, *, admin: bool = False) -> dict:
        """Creates a user.

        And more.
        """


def only_task(*components, **settings) -> TaskDescription:
    inspection = inspect_app(app_of(*components, **settings))
    assert inspection
    (description,) = inspection.tasks()
    return description


def test_a_task_is_described():
    description = only_task(UserTasks, Users, Pool, Clock)

    assert description.name == "users.create"
    assert description.component == f"{__name__}.UserTasks"
    assert description.method == "create"
    assert description.scope == "prototype"
    assert description.queue == "celery"
    assert description.options == {"max_retries": 3}
    assert str(description.signature) == "(name: str, *, admin: bool = False) -> dict"
    assert description.summary == "Creates a user."


def test_the_tree_tells_scopes_and_what_is_awaited_at_start_and_shows_each_component_once():
    users, pool, context = only_task(UserTasks, Users, Pool, Clock).needs

    clock = Dependency("Clock", f"{__name__}.Clock", "singleton")
    made = Dependency("Pool", f"{__name__}.Pool", "singleton", awaited=True, needs=(clock,))
    assert users == Dependency("Users", f"{__name__}.Users", "prototype", needs=(made, clock))
    assert pool == Dependency("Pool", f"{__name__}.Pool", "singleton", awaited=True, repeated=True)
    assert (context.name, context.scope) == ("TaskContext", "task")


def test_what_a_provider_makes_stands_under_what_was_asked_for():
    class Mailer: ...

    @component
    class SmtpMailer(Mailer): ...

    @provides(Mailer, scope="prototype")
    def mailer(smtp: SmtpMailer) -> Mailer:
        return smtp

    @component(scope="prototype")
    class Tasks:
        def __init__(self, mailer: Mailer) -> None: ...

        @task("mail")
        async def mail(self) -> None: ...

    (need,) = only_task(Tasks, SmtpMailer, mailer).needs
    assert need.name.endswith("Mailer")
    assert [below.name.rpartition(".")[2] for below in need.needs] == ["SmtpMailer"]


def test_a_list_is_shown_as_its_members():
    class Plugin: ...

    @component(qualifiers=["fast"])
    class First(Plugin): ...

    @component(qualifiers=["fast"])
    class Second(Plugin): ...

    @component(scope="prototype")
    class Tasks:
        def __init__(self, plugins: Annotated[list[Plugin], Qualifier("fast")]) -> None: ...

        @task("plug")
        async def plug(self) -> None: ...

    needs = only_task(Tasks, First, Second).needs
    assert {need.name.rpartition(".")[2] for need in needs} == {"First", "Second"}


def test_an_override_shows_what_was_given():
    class Frozen(Clock): ...

    @component(scope="prototype")
    class Tasks:
        def __init__(self, clock: Clock) -> None: ...

        @task("tick")
        async def tick(self) -> None: ...

    inspection = inspect_app(application(Tasks, Clock, overrides={Clock: Frozen()}).get(Celery))
    assert inspection
    (need,) = next(inspection.tasks()).needs
    assert need.name == "Clock"
    assert need.cls.endswith(".Frozen")


def test_the_task_that_a_bound_handler_gets_is_not_part_of_the_signature():
    @component(scope="prototype")
    class Tasks:
        @task("bound", bind=True)
        async def bound(self, task, number: int) -> None: ...

    assert str(only_task(Tasks).signature) == "(number: int) -> None"


@pytest.mark.parametrize(
    ("settings", "queue"),
    [
        ({}, "celery"),
        ({"task_default_queue": "mine"}, "mine"),
        ({"task_routes": {"plain": {"queue": "routed"}}}, "routed"),
        ({"task_routes": {"plain": {"queue": "nowhere"}}, "task_create_missing_queues": False}, "celery"),
    ],
)
def test_the_queue_is_the_one_that_celery_would_send_to(settings, queue):
    @component(scope="prototype")
    class Tasks:
        @task("plain")
        async def plain(self) -> None: ...

    assert only_task(Tasks, **settings).queue == queue


@pytest.mark.filterwarnings(r"ignore:\s*The 'queue' task attribute")
def test_a_queue_among_the_options_stands_as_the_queue_only():
    @component(scope="prototype")
    class Tasks:
        @task("plain", queue="high")
        async def plain(self) -> None: ...

    description = only_task(Tasks)
    assert (description.queue, description.options) == ("high", {})


def test_an_app_without_a_container_is_not_inspected():
    assert inspect_app(Celery(set_as_current=False)) is None


def test_tasks_are_in_the_order_of_their_names():
    @component(scope="prototype")
    class Tasks:
        @task("zebra")
        async def zebra(self) -> None: ...

        @task("ant")
        async def ant(self) -> None: ...

    inspection = inspect_app(app_of(Tasks))
    assert inspection
    assert [description.name for description in inspection.tasks()] == ["ant", "zebra"]
