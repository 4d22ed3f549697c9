"""Registration: every `@task` method of the container's components becomes a task of the app, once."""

import inspect
import logging

import pytest
from celery import Celery, Task
from celery.app import base as celery_app
from pico_ioc import component, factory, provides

from pico_celery import task
from pico_celery_core.errors import DuplicateTaskError
from pico_celery_worker import AsyncTask
from pico_celery_worker.tasks.runtime import runtime_of
from tests.unit.worker.applications import app_of


@component(scope="prototype")
class Mail:
    @task("mail.send", max_retries=7)
    async def send(self, to: str, *, copies: int = 1) -> list[str]:
        """Send a mail."""
        return [to] * copies

    @task("mail.drop")
    async def drop(self) -> None: ...

    async def no_task(self) -> None: ...


def test_every_task_method_becomes_a_task_with_its_options(app, container):
    container(Mail)
    names = {name for name in app.tasks if not name.startswith("celery.")}
    assert names == {"mail.send", "mail.drop"}
    assert isinstance(app.tasks["mail.send"], AsyncTask)
    assert app.tasks["mail.send"].max_retries == 7
    assert str(app.tasks["mail.send"].handler) == f"{__name__}.Mail.send"


def test_run_is_a_true_coroutine_function_that_shows_the_handler(app, container):
    container(Mail)
    run = app.tasks["mail.send"].run
    assert inspect.iscoroutinefunction(run)
    assert str(inspect.signature(run)) == "(to: str, *, copies: int = 1) -> list[str]"
    assert run.__name__ == "send"
    assert run.__doc__ == app.tasks["mail.send"].__doc__ == "Send a mail."
    assert run.__annotations__ == {"to": str, "copies": int, "return": list[str]}
    assert run.__module__ == app.tasks["mail.send"].__module__ == __name__


def test_a_message_is_checked_against_the_handlers_signature_when_it_is_sent(app, container):
    container(Mail)
    with pytest.raises(TypeError):
        app.tasks["mail.send"].apply_async(args=["a@x", "too many"])


def test_two_handlers_of_one_name_are_refused_by_both_names(container):
    @component(scope="prototype")
    class Other:
        @task("mail.send")
        async def post(self) -> None: ...

    with pytest.raises(Exception, match=r"mail\.send") as caught:
        container(Mail, Other)
    error = caught.value
    while not isinstance(error, DuplicateTaskError):
        assert error.__cause__ is not None, "it is the duplicate that stops the start"
        error = error.__cause__
    assert f"{__name__}.Mail.send" in str(error)
    assert "Other.post" in str(error)


def test_a_handler_that_is_provided_as_an_interface_too_is_one_handler(app, container):
    class Sending: ...

    @factory
    class Interfaces:
        @provides(Sending, scope="prototype")
        def sending(self, mail: Mail) -> Mail:
            return mail

    container(Interfaces, Mail)
    assert app.tasks["mail.send"].handler.key is Mail


def test_a_task_of_the_apps_own_is_not_replaced(app, container):
    @app.task(name="mail.send", shared=False)
    def other() -> None: ...

    app.finalize()
    with pytest.raises(DuplicateTaskError, match=f"belongs to both {__name__}.* and {__name__}.Mail.send"):
        container(Mail)
    assert not isinstance(app.tasks["mail.send"], AsyncTask)


# The app as it comes from the container


def plain() -> None:
    """A task as Celery has them without this project."""


@pytest.mark.parametrize("is_own", [False, True])
def test_what_is_connected_to_the_containers_app_is_called(make_app, container, is_own):
    given = make_app()
    app = container(Mail, on=given).get(Celery) if is_own else app_of(Mail)
    assert not app.configured
    assert not app.finalized
    seen = []

    @app.on_after_configure.connect
    def configured(sender, source, **_):
        seen.append(("configured", source["task_serializer"]))
        sender.add_periodic_task(10.0, sender.signature("mail.drop"), name="often")

    @app.on_after_finalize.connect
    def finalized(sender, **_):
        seen.append(("finalized", isinstance(sender.tasks["mail.send"], AsyncTask)))

    assert app.tasks["mail.send"].max_retries == 7
    assert seen == [("configured", "json"), ("finalized", True)]
    assert app.conf.beat_schedule["often"]["task"] == "mail.drop"
    app.close()


def test_settings_may_be_changed_before_the_app_is_used():
    app = app_of(Mail)
    app.conf.task_default_queue = "mails"
    app.config_from_object({"task_acks_late": True})
    assert (app.tasks["mail.send"].acks_late, app.conf.task_default_queue) == (True, "mails")
    app.close()


def test_where_children_are_spawned_tasks_are_registered_at_once(monkeypatch):
    monkeypatch.setattr(celery_app, "USING_EXECV", True)
    app = app_of(Mail)
    assert isinstance(vars(app)["_tasks"]["mail.send"], AsyncTask)
    other = Celery("other", set_as_current=False)
    assert "mail.send" not in other.tasks
    for each in (app, other):
        each.close()


@pytest.mark.filterwarnings("ignore::celery.exceptions.DuplicateTaskNameWarning")
def test_a_task_of_the_apps_own_is_found_when_the_app_is_finalised(app, container):
    app.task(name="mail.send", shared=False)(plain)
    container(Mail)
    with pytest.raises(DuplicateTaskError, match=f"belongs to both {__name__}.plain and {__name__}.Mail.send"):
        app.finalize()


def test_a_base_that_cannot_be_is_refused_when_the_container_starts(app, container):
    class Base(Task):
        def __call__(self, *args, **kwargs): ...

    @component(scope="prototype")
    class Tasks:
        @task("mail.based", base=Base)
        async def run(self) -> None: ...

    with pytest.raises(Exception, match="overrides __call__"):
        container(Tasks)
    assert not app.finalized


def test_a_second_container_on_the_app_replaces_the_first(app, container):
    first, second = container(Mail), container(Mail)
    assert app.tasks["mail.send"].executor.container is second
    assert first is not second
    runtime = runtime_of(app)
    assert runtime is not None
    assert runtime.container is second
    assert len(app.steps["worker"]) == 1
    assert app.tasks["mail.send"].delay("a@x").get() == ["a@x"]


def test_tasks_are_registered_in_their_own_app_alone(app, make_app, container):
    container(Mail)
    late = Celery("late", set_as_current=False)
    for other in (make_app(), late):
        other.finalize()
        assert "mail.send" not in other.tasks
    late.close()


def test_a_singleton_task_component_draws_one_warning(container, caplog):
    @component
    class Shared:
        @task("shared.one")
        async def one(self) -> None: ...

        @task("shared.two")
        async def two(self) -> None: ...

    with caplog.at_level(logging.WARNING, "pico_celery_worker"):
        container(Shared, Mail)
    [record] = caplog.records
    assert "Shared is a singleton: its executions share one instance" in record.getMessage()
    assert '@component(scope="prototype")' in record.getMessage()


def test_a_singleton_task_component_is_one_for_all_executions(app, container):
    @component
    class Counter:
        count = 0

        @task("count")
        async def increase(self) -> int:
            self.count += 1
            return self.count

    container(Counter)
    assert [app.tasks["count"].delay().get() for _ in range(3)] == [1, 2, 3]


def test_a_prototype_is_new_for_each_execution(app, container):
    @component(scope="prototype")
    class Counter:
        count = 0

        @task("count")
        async def increase(self) -> int:
            self.count += 1
            return self.count

    container(Counter)
    assert [app.tasks["count"].delay().get() for _ in range(3)] == [1, 1, 1]


def test_tasks_are_found_through_base_classes(app, container):
    class Base:
        suffix = "base"

        @task("inherited")
        async def run(self) -> str:
            return self.suffix

    @component(scope="prototype")
    class Child(Base):
        suffix = "child"

    container(Child)
    assert app.tasks["inherited"].delay().get() == "child"
    assert str(app.tasks["inherited"].handler).endswith("Child.run")


def test_an_overridden_task_method_without_the_decorator_is_no_task(app, container):
    class Base:
        @task("inherited")
        async def run(self) -> str: ...

    @component(scope="prototype")
    class Child(Base):
        async def run(self) -> str: ...

    container(Child)
    assert "inherited" not in app.tasks


@pytest.mark.parametrize("is_async", [False, True])
def test_task_components_that_a_factory_makes(app, container, is_async):
    class Made:
        def __init__(self, source: str) -> None:
            self.source = source

        @task("made.source")
        async def tell(self) -> str:
            return self.source

    @factory
    class Makers:
        if is_async:

            @provides(Made, scope="prototype")
            async def make(self) -> Made:
                return Made("awaited")

        else:

            @provides(Made, scope="prototype")
            def make(self) -> Made:
                return Made("called")

    container(Makers)
    assert app.tasks["made.source"].delay().get() == ("awaited" if is_async else "called")


def test_a_task_component_known_by_name(app, container):
    @component(name="by name", scope="prototype")
    class Named:
        @task("named")
        async def run(self) -> str:
            return "done"

    container(Named)
    assert app.tasks["named"].delay().get() == "done"
