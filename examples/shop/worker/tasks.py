"""What the worker runs."""

import logging

from pico_ioc import component

from examples.shop.contracts import FULFIL, STEPS
from examples.shop.worker.database import Orders, UnitOfWork
from examples.shop.worker.services import CustomsClosedError, Shop
from pico_celery import TaskContext, task

logger = logging.getLogger(__name__)


@component(scope="prototype")
class OrderTasks:
    def __init__(self, shop: Shop, orders: Orders, work: UnitOfWork, context: TaskContext) -> None:
        self.shop, self.orders, self.work, self.context = shop, orders, work, context

    # Acknowledged when it has ended: an order survives a worker that is killed. So it may run twice, and finds its row.
    @task(FULFIL, acks_late=True, max_retries=5)
    async def fulfil(self, product: str, address: str) -> str:
        """Make a product and deliver it."""
        order = await self.orders.find_or_add(self.context.id, product, address)
        await self.work.commit()
        if order.delivered:
            return "Delivered before."
        self.shop.courier.check(address)

        await self.context.progress(1, len(STEPS), "Being made")
        await self.shop.workshop.make(product)

        await self.context.progress(2, len(STEPS), "At the customs")
        try:
            await self.shop.customs.clear(product, self.context.retries)
        except CustomsClosedError as error:
            self.context.retry(exc=error, countdown=1)

        await self.context.progress(3, len(STEPS), "With the courier")
        receipt = await self.shop.courier.deliver(address)
        order.delivered = True
        await self.work.commit()
        return receipt


@component(scope="prototype")
class StockTasks:
    def __init__(self, orders: Orders) -> None:
        self.orders = orders

    @task("shop.take_stock", ignore_result=True)
    async def take_stock(self) -> None:
        """Say how many orders were delivered. `celery beat` sends it, by the schedule of the settings."""
        logger.info("Stock-take: %d orders are delivered.", await self.orders.count_delivered())
