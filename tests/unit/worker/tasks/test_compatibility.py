"""A container with both a stub and the handler of its task does not start where they contradict each other."""

import pytest
from pico_ioc import component, provides

from pico_celery import CeleryClient, celery, send_task, task
from pico_celery_core.errors import ContractError
from pico_celery_core.metadata import handlers, stubs
from pico_celery_worker.container.handlers import Handler, Stub, stubs_of
from pico_celery_worker.tasks.compatibility import compare_stub
from tests.unit.worker.applications import application


@component(scope="prototype")
class OrderTasks:
    @task("orders.confirm")
    async def confirm(self, order: int, email: str) -> str:
        return f"{order} {email}"

    @task("orders.cancel", bind=True)
    async def cancel(self, task, order: int) -> None: ...


@celery
class OrderClient(CeleryClient):
    @send_task("orders.confirm")
    def confirm(self, order: int, email: str) -> str: ...

    @send_task("orders.confirm")
    async def aconfirm(self, order: int, email: str) -> str: ...

    @send_task("orders.cancel")
    def cancel(self, order: int) -> None: ...

    @send_task("elsewhere.archive")
    def archive(self, everything: bool) -> None: ...


@celery
class OldClient(CeleryClient):
    @send_task("orders.confirm")
    def confirm(self, order: int) -> str: ...


def test_stubs_that_agree_and_stubs_without_a_handler_start():
    container = application(OrderTasks, OrderClient)

    assert [stub.method for stub in stubs_of(container)] == ["aconfirm", "archive", "cancel", "confirm"]


def test_a_stub_that_contradicts_its_handler_stops_the_start_and_both_signatures_are_shown():
    with pytest.raises(ContractError) as caught:
        application(OrderTasks, OrderClient, OldClient)

    assert str(caught.value) == (
        "No call of the stub that sends 'orders.confirm' fits the task's handler: "
        "(order) does not fit: missing a required argument: 'email'.\n"
        f"  stub:    {__name__}.OldClient.confirm(order: int) -> str\n"
        f"  handler: {__name__}.OrderTasks.confirm(order: int, email: str) -> str\n"
        "Give both the same parameters."
    )


def test_a_bound_handler_without_a_place_for_its_task_contradicts_its_stub():
    """Who comes from Celery may take `self` for the task."""

    @component(scope="prototype")
    class Tasks:
        @task("orders.cancel", bind=True)
        async def cancel(self, order: int) -> None: ...

    with pytest.raises(ContractError):
        application(Tasks, OrderClient)


def test_a_stub_that_fits_for_some_calls_starts():
    """Somebody may have called it in the right way for years; `pico check` tells of the others."""

    @celery
    class Renamed(CeleryClient):
        @send_task("orders.cancel")
        def cancel(self, number: int) -> None: ...

    application(OrderTasks, Renamed)


def test_a_component_under_two_keys_has_each_stub_once():
    @celery
    class Client(CeleryClient):
        @send_task("orders.confirm")
        def confirm(self, order: int, email: str) -> str: ...

    @provides(CeleryClient)
    def client() -> CeleryClient: ...

    assert len(list(stubs_of(application(Client, client)))) == 1


def test_the_annotations_of_a_pydantic_handler_do_not_count():
    """Celery makes a model of the dictionary that the stub sends."""

    class Order: ...

    class Tasks:
        @task("orders.import", pydantic=True)
        async def take(self, order: Order) -> Order: ...

    class Client:
        @send_task("orders.import")
        def take(self, order: dict) -> dict: ...

    ((method, spec),) = handlers(Tasks)
    handler = Handler(Tasks, method, Tasks, spec)
    ((method, sent),) = stubs(Client)
    comparison = compare_stub(Stub(Client, method, sent), handler)

    assert (comparison.agrees, comparison.incompatibilities, comparison.differences) == (True, (), ())
