"""An app one of whose parameters gets another name with a deploy."""

import json
import os
import sys
from typing import Annotated

from celery import Celery
from pico_ioc import DictSource, component, configuration, init

from pico_celery import Sensitive, task

NEW = os.environ.get("TEST_DEPLOYED") == "new"


@component(scope="prototype")
class Orders:
    @task("orders.confirm", acks_late=True)
    async def confirm(self, number: int) -> str:
        return f"order {number}"

    @task("orders.pay")
    async def pay(self, number: int, card: Annotated[str, Sensitive]) -> str:
        return f"paid {number}"

    @task("orders.fail")
    async def fail(self) -> None:
        raise ValueError("out of stock")


@component(scope="prototype")
class NewOrders(Orders):
    @task("orders.confirm", acks_late=True)
    async def confirm(self, order: int) -> str:  # type: ignore[override]
        return f"order {order}"

    @task("orders.cancel")
    async def cancel(self, order: int) -> str:
        return f"cancelled {order}"


if NEW:
    del Orders
else:
    del NewOrders

settings = {
    "broker_url": os.environ.get("TEST_BROKER_URL", "memory://"),
    "backend_url": os.environ.get("TEST_BACKEND_URL", "cache+memory://"),
    "task_default_queue": os.environ.get("TEST_QUEUE", "celery"),
    "pico_dead_letters_failures": True,
    "pico_dead_letters_queue": f"{os.environ.get('TEST_QUEUE', 'celery')}-dead",
    **json.loads(os.environ.get("TEST_SETTINGS", "{}")),
}
container = init(modules=["pico_celery", sys.modules[__name__]], config=configuration(DictSource({"celery": settings})))
app = container.get(Celery)
