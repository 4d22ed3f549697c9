"""The client, by which the web service sends orders."""

from examples.shop.contracts import FULFIL
from pico_celery import CeleryClient, celery, send_task


@celery
class OrderClient(CeleryClient):
    @send_task(FULFIL)
    async def fulfil(self, product: str, address: str) -> str: ...
