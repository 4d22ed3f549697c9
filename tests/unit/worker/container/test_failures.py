"""A task whose component cannot be built says what failed, in which phase, on which path, and what to try."""

from typing import Any

import pytest
from pico_ioc import ComponentCreationError, ProviderNotFoundError, cleanup, component, configure, factory, provides

from pico_celery_core.errors import ResolutionError
from pico_celery_core.metadata import TaskSpec
from pico_celery_worker.container.failures import innermost, resolution_error
from pico_celery_worker.container.handlers import Handler
from tests.unit.worker.containers import bare_container, planned


class Smtp:
    """The last of the path; each case makes another one."""


@component(scope="prototype")
class Mailer:
    def __init__(self, smtp: Smtp) -> None: ...


@component(scope="prototype")
class OrderTasks:
    def __init__(self, mailer: Mailer) -> None: ...

    async def confirm(self) -> None: ...


def handler_of(root: type) -> Handler:
    return Handler(cls=root, method="confirm", key=root, spec=TaskSpec("orders.confirm", {}))


async def failure(*components: Any, root: type = OrderTasks) -> ResolutionError:
    """Return what the execution would raise, with its cause."""
    container = bare_container(*components, root)
    with pytest.raises((ComponentCreationError, ProviderNotFoundError)) as caught:
        await planned(container, root)
    made = resolution_error(container, handler_of(root), caught.value)
    made.__cause__ = innermost(caught.value)
    return made


def refuse(*_: Any) -> None:
    raise ConnectionError("refused.")


async def refuse_async(*_: Any) -> None:
    refuse()


CONSTRUCT = {"__init__": refuse}
INITIALIZE = {
    "__ainit__": {"__ainit__": refuse_async},
    "connect": {"connect": configure(refuse)},
    "connect_async": {"connect_async": configure(refuse_async)},
}
SCOPES = {"prototype": {"scope": "prototype"}, "task": {"scope": "task"}}


def smtp(members: dict[str, Any], **options: Any) -> type:
    return component(**options)(type("SmtpServer", (Smtp,), {**members, "close": cleanup(lambda _: None)}))


@pytest.mark.parametrize("scope", SCOPES.values(), ids=SCOPES)
async def test_a_constructor_that_fails(scope):
    error = await failure(smtp(CONSTRUCT, **scope), Mailer)
    assert str(error) == (
        "Task 'orders.confirm' could not get its component OrderTasks: ConnectionError: refused, while constructing "
        "SmtpServer (OrderTasks → Mailer → SmtpServer). Try to get SmtpServer alone, with "
        "`await container.aget(SmtpServer)`; if the cause passes by itself, let the task retry with "
        "autoretry_for=(ResolutionError,)."
    )


@pytest.mark.parametrize("scope", SCOPES.values(), ids=SCOPES)
@pytest.mark.parametrize("method", INITIALIZE)
async def test_a_method_that_belongs_to_the_making_and_fails(method, scope):
    error = await failure(smtp(INITIALIZE[method], **scope), Mailer)
    assert error.phase == f"initializing SmtpServer with {method}"
    assert error.path == "OrderTasks → Mailer → SmtpServer"
    assert error.problem == "ConnectionError: refused"


@pytest.mark.parametrize("method", ["__ainit__", "connect_async"])
async def test_a_singleton_that_is_awaited_beforehand(method):
    error = await failure(smtp(INITIALIZE[method], lazy=True), Mailer)
    assert error.phase == f"initializing SmtpServer with {method}"
    assert error.path == "OrderTasks → Mailer → SmtpServer"
    assert error.problem == "ConnectionError: refused"


async def test_a_provider_function_that_fails():
    def smtp_of_settings() -> Smtp:
        raise ValueError

    error = await failure(provides(Smtp, scope="prototype")(smtp_of_settings), Mailer)
    assert (error.problem, error.phase) == ("ValueError", "constructing Smtp")
    assert error.path == "OrderTasks → Mailer → Smtp"


async def test_a_factory_that_fails_to_start():
    @factory
    class SmtpFactory:
        async def __ainit__(self) -> None:
            refuse()

        @provides(Smtp, scope="prototype")
        def make(self) -> Smtp:
            return Smtp()

    error = await failure(SmtpFactory, Mailer)
    assert error.phase == "initializing SmtpFactory with __ainit__"
    assert error.path == "OrderTasks → Mailer → Smtp → SmtpFactory"


async def test_a_configured_instance_of_a_provider_function():
    class Secure(Smtp):
        @configure
        def log_in(self) -> None:
            refuse()

    def secure() -> Smtp:
        return Secure()

    error = await failure(provides(Smtp, scope="prototype")(secure), Mailer)
    assert error.phase == "initializing Smtp with log_in"
    assert error.path == "OrderTasks → Mailer → Smtp"


async def test_a_dependency_of_an_initializer():
    @component(scope="prototype")
    class Root:
        @configure
        def set_up(self, mailer: Mailer) -> None: ...

        async def confirm(self) -> None: ...

    error = await failure(smtp(CONSTRUCT, scope="prototype"), Mailer, root=Root)
    assert error.phase == "constructing SmtpServer"
    assert error.path == "Root → Mailer → SmtpServer"


async def test_the_tasks_own_component():
    @component(scope="prototype")
    class Root:
        def __init__(self) -> None:
            refuse()

        async def confirm(self) -> None: ...

    error = await failure(root=Root)
    assert (error.phase, error.path) == ("constructing Root", "Root")


async def test_a_dependency_that_nothing_provides():
    @component(scope="prototype")
    class Server(Smtp):
        def __init__(self, port: int) -> None: ...

    error = await failure(Server, Mailer)
    assert str(error) == (
        "Task 'orders.confirm' could not get its component OrderTasks: Provider for key 'int' not found (required by: "
        "'Server'), while resolving int (OrderTasks → Mailer → Server → int). Try to provide int with @component or "
        "@provides, or give the parameter a default."
    )


async def test_a_part_that_the_container_makes_by_itself():
    @component(scope="request")
    class Session(Smtp): ...

    error = await failure(Session, Mailer)
    assert error.problem.startswith("ScopeError: Cannot resolve component in scope 'request'")
    assert error.path == "OrderTasks → Mailer → Session"


async def test_what_the_container_does_not_know_of_is_left_open():
    container = bare_container(OrderTasks, Mailer, smtp({}, scope="prototype"))
    error = resolution_error(
        container, handler_of(OrderTasks), ComponentCreationError("elsewhere", ValueError("broken"))
    )
    assert error.path == "OrderTasks → … → elsewhere"


async def test_of_the_containers_errors_only_the_innermost_is_the_cause():
    error = await failure(smtp(CONSTRUCT, scope="prototype"), Mailer)
    assert isinstance(error.__cause__, ComponentCreationError)
    assert isinstance(error.__cause__.__cause__, ConnectionError)
