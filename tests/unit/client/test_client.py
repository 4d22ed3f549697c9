"""A client is a component: scopes, dependencies, inheritance, and what `@celery` refuses."""

import functools
import inspect
from dataclasses import dataclass
from typing import Any, Protocol

import pytest
from pico_ioc import MethodCtx, MethodInterceptor, component, intercepted_by

from pico_celery_client import CeleryClient, TaskResult, celery, with_options
from pico_celery_core import send_task, task
from pico_celery_core.errors import ClientNotConnectedError, DeclarationError, EmptyClientError


@celery
class Single(CeleryClient):
    @send_task("tasks.run")
    def run(self) -> None: ...


@celery(scope="prototype")
class Fresh(CeleryClient):
    @send_task("tasks.run")
    def run(self) -> None: ...


@component
class Clock:
    now = "noon"


@celery
class WithDependencies(CeleryClient):
    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    @send_task("tasks.run")
    def run(self, at: str) -> None: ...

    def run_now(self) -> TaskResult[None]:
        return self.run(self.clock.now)


def test_the_class_itself_stays():
    assert inspect.isclass(Single)
    assert isinstance(Single(), Single)
    assert Single.run.__name__ == "run"


def test_a_client_is_a_singleton_unless_it_says_otherwise(container):
    made = container(Single)
    assert made.get(Single) is made.get(Single)


def test_a_client_in_prototype_scope_is_made_anew_and_sends(container, sent):
    made = container(Fresh)
    first, second = made.get(Fresh), made.get(Fresh)
    assert first is not second
    assert {first.run().id, second.run().id} == {message.id for message in sent()}


async def test_a_client_can_be_awaited_from_the_container(container, sent):
    client = await container(Single).aget(Single)
    assert client.run().id == sent()[0].id


def test_a_client_is_injected(container, sent):
    @component
    class Service:
        def __init__(self, client: Single) -> None:
            self.client = client

    container(Single, Service).get(Service).client.run()
    assert len(sent()) == 1


def test_a_client_may_have_dependencies_of_its_own(container, sent):
    container(WithDependencies, Clock).get(WithDependencies).run_now()
    assert sent()[0].args == ["noon"]


def test_a_dataclass_may_be_a_client(container, sent):
    @celery
    @dataclass
    class DataClient(CeleryClient):
        clock: Clock

        @send_task("tasks.run")
        def run(self, at: str) -> None: ...

    client = container(DataClient, Clock).get(DataClient)
    client.run(client.clock.now)
    assert sent()[0].args == ["noon"]


def test_a_client_need_not_inherit_from_celery_client(container, sent):
    @celery
    class Plain:
        @send_task("tasks.run")
        def run(self) -> None: ...

    container(Plain).get(Plain).run()
    assert len(sent()) == 1


def test_stubs_are_inherited_from_a_client(container, sent):
    @celery
    class Child(WithDependencies):
        @send_task("tasks.stop")
        def stop(self) -> None: ...

    client = container(Child, Clock).get(Child)
    client.run_now()
    client.stop()
    assert [message.task for message in sent()] == ["tasks.run", "tasks.stop"]


def test_stubs_are_inherited_from_a_class_that_is_no_component(container, sent):
    class Stubs(CeleryClient, Protocol):
        @send_task("tasks.run")
        def run(self) -> None: ...

    @celery
    class Child(Stubs): ...

    container(Child).get(Child).run()
    assert [message.task for message in sent()] == ["tasks.run"]


def test_a_child_may_send_another_task(container, sent):
    @celery
    class Child(Single):
        @send_task("tasks.other", priority=1)
        def run(self) -> None: ...

    made = container(Single, Child)
    made.get(Child).run()
    made.get(Single).run()
    assert [message.task for message in sent()] == ["tasks.other", "tasks.run"]


def test_a_child_calls_the_stub_that_it_overrides(container, sent):
    class Stubs:
        @send_task("tasks.mixed_in")
        def stop(self) -> None: ...

    @celery
    class Child(Single, Stubs):
        def run(self) -> TaskResult[None]:
            return super().run()

        @send_task("tasks.stop")
        def stop(self) -> None: ...

        def stop_all(self) -> None:
            self.stop()
            super().stop()

    client = container(Child).get(Child)
    client.run()
    client.stop_all()
    assert [message.task for message in sent()] == ["tasks.run", "tasks.stop", "tasks.mixed_in"]


def test_a_stub_may_have_another_name_than_its_attribute(container, sent):
    def stub_for(task: str) -> Any:
        @send_task(task)
        def stub(self, number: int) -> None: ...

        return stub

    @celery
    class Made(CeleryClient):
        first = stub_for("tasks.first")
        second = stub_for("tasks.second")

        @send_task("tasks.private")
        def __private(self) -> None: ...

        def private(self) -> None:
            self.__private()

    client = container(Made).get(Made)
    client.first(1)
    client.second(2)
    client.private()
    assert [(message.task, message.args) for message in sent()] == [
        ("tasks.first", [1]),
        ("tasks.second", [2]),
        ("tasks.private", []),
    ]


def test_a_decorator_above_a_stub_runs_around_the_sending(container, sent):
    names: list[str] = []

    def noted(method: Any) -> Any:
        @functools.wraps(method)
        def wrapper(self: Any, *args: Any) -> Any:
            names.append(method.__name__)
            return method(self, *args)

        return wrapper

    @celery
    class Noted(CeleryClient):
        @noted
        @send_task("tasks.run")
        def run(self, number: int) -> None: ...

    container(Noted).get(Noted).run(1)
    assert names == ["run"]
    assert len(sent()) == 1


def test_a_stub_may_take_an_argument_named_self(container, sent):
    @celery
    class Odd(CeleryClient):
        @send_task("tasks.run")
        def run(self, /, **values: int) -> None: ...

        @send_task("tasks.run")
        def positional(this, /, **values: int) -> None: ...  # noqa: N805

    client = container(Odd).get(Odd)
    client.run(self=1)
    client.positional(self=2)
    assert [message.kwargs for message in sent()] == [{"self": 1}, {"self": 2}]


def test_a_child_with_dependencies_of_its_own_sends(container, sent):
    @celery
    class Child(WithDependencies):
        def __init__(self, clock: Clock, other: Single) -> None:
            super().__init__(clock)
            self.other = other

        @send_task("tasks.stop")
        def stop(self) -> None: ...

    client = container(Child, Clock, Single).get(Child)
    client.stop()
    client.run_now()
    client.other.run()
    assert [message.task for message in sent()] == ["tasks.stop", "tasks.run", "tasks.run"]


def test_a_base_after_celery_client_is_made_with_its_dependencies(container, sent):
    class Timed:
        def __init__(self, clock: Clock) -> None:
            self.clock = clock

    @celery
    class Child(CeleryClient, Timed):
        @send_task("tasks.run")
        def run(self, at: str) -> None: ...

    client = container(Child, Clock).get(Child)
    client.run(client.clock.now)
    assert sent()[0].args == ["noon"]


def test_a_class_may_be_worker_and_client_at_once(container, sent):
    @celery
    class Both(CeleryClient):
        @send_task("tasks.next")
        def next(self) -> None: ...

        @task("tasks.run")
        async def run(self) -> str:
            return self.next().id

    assert container(Both).get(Both).next().id == sent()[0].id


@component
class Notes(MethodInterceptor):
    def __init__(self) -> None:
        self.names: list[str] = []

    def invoke(self, ctx: MethodCtx, call_next: Any) -> Any:
        self.names.append(ctx.name)
        return call_next(ctx)


async def test_another_interceptor_may_stand_on_an_async_stub_and_on_other_methods(container, sent):
    @celery
    class Noted(CeleryClient):
        @intercepted_by(Notes)
        @send_task("tasks.run", priority=3)
        async def run(self) -> None: ...

        @intercepted_by(Notes)
        def hello(self) -> str:
            return "hello"

        @send_task("tasks.plain")
        def plain(self) -> None: ...

    made = container(Noted, Notes)
    client = made.get(Noted)
    assert client.hello() == "hello"
    await client.run()
    await with_options(client, priority=9).run()
    client.plain()
    assert made.get(Notes).names == ["hello", "run", "run"]
    assert [message.properties["priority"] for message in sent()] == [3, 9, 0]


def test_a_lazy_client_sends(container, sent):
    @celery(lazy=True)
    class Lazy(CeleryClient):
        @send_task("tasks.run")
        def run(self) -> None: ...

    client = container(Lazy).get(Lazy)
    with_options(client, priority=9).run()
    client.run()
    assert [message.properties["priority"] for message in sent()] == [9, 0]


def test_two_containers_do_not_share_a_client(container):
    assert container(Single).get(Single) is not container(Single).get(Single)


# A client made by hand


def test_a_client_made_by_hand_cannot_send():
    with pytest.raises(ClientNotConnectedError) as error:
        Single().run()
    assert str(error.value) == (
        "Single.run cannot send: this Single is not connected to a Celery app. "
        "Decorate the class with @celery, and inject it, or take it with container.get(Single)."
    )


async def test_nor_can_its_async_stubs():
    class Async(CeleryClient):
        @send_task("tasks.run")
        async def run(self) -> None: ...

    with pytest.raises(ClientNotConnectedError):
        await celery(Async)().run()


def test_nor_can_it_with_options():
    with pytest.raises(ClientNotConnectedError):
        with_options(Single(), priority=1).run()


async def test_nor_can_a_client_without_celery_above_it(container):
    class Undecorated:
        @send_task("tasks.run")
        def run(self) -> None: ...

        @send_task("tasks.run")
        async def arun(self) -> None: ...

    class Slotted:
        __slots__ = ()

        @send_task("tasks.run")
        def run(self) -> None: ...

    with pytest.raises(ClientNotConnectedError, match="Decorate the class with @celery"):
        Undecorated().run()
    with pytest.raises(ClientNotConnectedError):
        Slotted().run()
    client = container(component(Undecorated)).get(Undecorated)
    with pytest.raises(ClientNotConnectedError):
        client.run()
    with pytest.raises(ClientNotConnectedError):
        await client.arun()


def test_nor_can_a_child_without_celery_that_is_made_in_its_own_way(container):
    @component
    class Child(Single):
        def __init__(self) -> None:
            super().__init__()

    with pytest.raises(ClientNotConnectedError, match=r"Child\.run cannot send: .* Decorate the class with @celery"):
        container(Child).get(Child).run()


def test_its_other_methods_work_by_hand():
    assert WithDependencies(Clock()).clock.now == "noon"


# What @celery refuses


def test_celery_on_a_class_without_tasks_is_refused():
    with pytest.raises(ValueError, match="No @send_task or @task methods found") as error:

        @celery
        class Empty(CeleryClient):
            def run(self) -> None: ...

    assert isinstance(error.value, EmptyClientError)
    assert str(error.value).startswith(
        "@celery: No @send_task or @task methods found on "
        "test_celery_on_a_class_without_tasks_is_refused.<locals>.Empty."
    )
    assert str(error.value).endswith(
        'Decorate a method with @send_task("task.name"), or use @component for a plain component.'
    )


def test_celery_on_a_class_of_handlers_is_a_component(container):
    @celery
    class Handlers:
        @task("tasks.run")
        async def run(self) -> None: ...

    assert isinstance(container(Handlers).get(Handlers), Handlers)


@pytest.mark.parametrize("use", [celery, celery()])
def test_celery_on_a_function_is_refused(use):
    def run() -> None: ...

    with pytest.raises(TypeError) as error:
        use(run)
    assert isinstance(error.value, DeclarationError)
    assert str(error.value).endswith("it is not a class. Move @celery to the class of the stubs.")


def test_celery_on_a_sync_stub_with_another_interceptor_is_refused():
    """pico-ioc would refuse the TaskResult, but only after the message was sent."""
    with pytest.raises(DeclarationError, match=r"Noted\.run: .*@intercepted_by.* Make the stub `async def`"):

        @celery
        class Noted(CeleryClient):
            @intercepted_by(Notes)
            @send_task("tasks.run")
            def run(self) -> None: ...


def test_celery_on_a_class_whose_instances_hold_no_attributes_is_refused():
    with pytest.raises(DeclarationError) as error:

        @celery
        class Slotted:
            __slots__ = ("clock",)

            @send_task("tasks.run")
            def run(self) -> None: ...

    assert str(error.value).endswith(
        "Slotted: its instances have no __dict__. Leave out __slots__, or inherit from CeleryClient."
    )


def test_with_options_on_a_class_is_refused():
    with pytest.raises(TypeError) as error:
        with_options(Single, priority=1)
    assert str(error.value) == (
        "with_options() on Single: it is a class. Give it a client: inject one, or take it with container.get(Single)."
    )


@pytest.mark.parametrize("value", [None, 7])
def test_with_options_on_what_is_no_client_is_refused(value):
    with pytest.raises(TypeError) as error:
        with_options(value, priority=1)
    assert str(error.value) == (
        f"with_options() on {value}: it is not a client. Give it a client: inject one, or take it with container.get()."
    )
