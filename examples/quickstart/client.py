"""The sending side, a web service for instance. It imports neither the tasks nor the services behind them."""

from pico_ioc import component

from pico_celery import CeleryClient, TaskResult, celery, send_task


@celery
class OrderClient(CeleryClient):
    @send_task("orders.confirm")
    async def confirm(self, order: int, email: str) -> str: ...  # the body never runs: a call sends the task


@component
class Shop:
    def __init__(self, orders: OrderClient) -> None:
        self.orders = orders

    async def sell(self, order: int, email: str) -> TaskResult[str]:
        return await self.orders.confirm(order, email=email)
