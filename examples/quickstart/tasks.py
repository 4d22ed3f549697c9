"""What the worker runs: each execution gets a new OrderTasks, and the container hands it a Mailer."""

from pico_ioc import component

from examples.quickstart.services import Mailer
from pico_celery import task


@component(scope="prototype")
class OrderTasks:
    def __init__(self, mailer: Mailer) -> None:
        self.mailer = mailer

    @task("orders.confirm")
    async def confirm(self, order: int, email: str) -> str:
        return await self.mailer.send(email, f"Order {order} is confirmed.")
