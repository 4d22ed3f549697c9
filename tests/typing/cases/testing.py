"""A user's tests: results and calls are checked against the stubs."""
# mypy: disable-error-code=empty-body

from collections.abc import Callable
from typing import assert_type

from pico_ioc import component

from pico_celery import CeleryClient, celery, send_task, task
from pico_celery_client.testing import Call, RecordingCelery
from pico_celery_worker.testing import TaskRunner


@celery
class OrderClient(CeleryClient):
    @send_task("orders.confirm")
    def confirm(self, order: int, email: str = "") -> str: ...

    @send_task("orders.confirm")
    async def aconfirm(self, order: int, email: str = "") -> str: ...

    @send_task("orders.forget")
    def forget(self, order: int) -> None: ...


@component(scope="prototype")
class OrderTasks:
    @task("orders.confirm")
    async def confirm(self, order: int, email: str = "") -> str:
        return f"{order} {email}"


def test_results(recording_celery: RecordingCelery, orders: OrderClient) -> None:
    recording_celery.returns(orders.confirm, "first", "second", delay=0.5)
    recording_celery.returns(orders.aconfirm, "first")
    recording_celery.returns(OrderClient.confirm, "first")
    recording_celery.returns(orders.forget, None)
    recording_celery.returns("orders.confirm", object())
    recording_celery.returns(orders.confirm, 1)  # expect-error (pyright)
    recording_celery.returns(orders.confirm, "first", 2)  # expect-error (pyright)
    recording_celery.returns(orders.aconfirm, 1)  # expect-error (pyright)
    recording_celery.returns(1, 1)  # expect-error
    recording_celery.raises(orders.confirm, ValueError(), KeyError(), delay=1)
    recording_celery.raises(orders.confirm, ValueError)  # expect-error


def test_calls(recording_celery: RecordingCelery, orders: OrderClient) -> None:
    assert_type(recording_celery.assert_sent(orders.confirm, 7, email="a@x"), Call)
    recording_celery.assert_sent(orders.aconfirm, order=7)
    recording_celery.assert_sent(orders.confirm, "7")  # expect-error
    recording_celery.assert_sent(orders.aconfirm, 7, mail="a@x")  # expect-error
    recording_celery.assert_sent(orders.confirm)  # expect-error
    assert_type(recording_celery.calls_of(orders.confirm), list[Call])
    recording_celery.calls_of("orders.confirm")  # expect-error


async def test_tasks(task_runner: Callable[..., TaskRunner]) -> None:
    runner = task_runner(None, timeout=5)
    assert_type(runner.run(OrderTasks.confirm, 7, email="a@x"), str)
    assert_type(await runner.arun(OrderTasks.confirm, 7), str)
    runner.run(OrderTasks.confirm, "7")  # expect-error
    await runner.arun(OrderTasks.confirm)  # expect-error
