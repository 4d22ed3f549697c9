"""One application of pico-boot, pico-fastapi, pico-sqlalchemy, pico-actuator and pico-celery; it says what it sees."""

import asyncio
import json
import sys
from contextlib import suppress
from typing import Any

from fastapi import FastAPI
from pico_actuator import HealthIndicator
from pico_boot import init
from pico_fastapi import controller, get, post
from pico_ioc import DictSource, component, configuration
from pico_sqlalchemy import AppBase, Mapped, SessionManager, get_session, mapped_column, repository, transactional

from pico_celery import CeleryClient, celery, send_task, task
from pico_celery.testing import TaskRunner


class Order(AppBase):
    __tablename__ = "orders"

    number: Mapped[int] = mapped_column(primary_key=True)


@repository(entity=Order)
class Orders:
    def __init__(self, sessions: SessionManager) -> None:
        self.sessions = sessions

    async def add(self, number: int) -> int:
        get_session(self.sessions).add(Order(number=number))
        return number

    async def has(self, number: int) -> bool:
        return await get_session(self.sessions).get(Order, number) is not None


@component
class Tables:
    def __init__(self, base: AppBase, sessions: SessionManager) -> None:
        self.base, self.sessions = base, sessions

    async def create(self) -> None:
        async with self.sessions.engine.begin() as connection:
            await connection.run_sync(self.base.metadata.create_all)


@component
class Checkout:
    def __init__(self, orders: Orders) -> None:
        self.orders = orders

    @transactional
    async def take(self, number: int, fail: bool) -> None:
        await self.orders.add(number)
        if fail:
            raise ValueError("rolled back")


@component(scope="prototype")
class OrderTasks:
    def __init__(self, checkout: Checkout, orders: Orders, tables: Tables) -> None:
        self.checkout, self.orders, self.tables = checkout, orders, tables

    @task("family.take")
    async def take(self, number: int, fail: bool = False) -> bool:
        await self.tables.create()
        with suppress(ValueError):
            await self.checkout.take(number, fail)
        return await self.orders.has(number)


@celery
class OrderClient(CeleryClient):
    @send_task("family.take")
    async def take(self, number: int, fail: bool = False) -> bool: ...


@controller(prefix="/orders")
class OrderController:
    def __init__(self, orders: OrderClient) -> None:
        self.orders = orders

    @post("/{number}")
    async def take(self, number: int, fail: bool = False) -> dict[str, bool]:
        result = await self.orders.take(number, fail=fail)
        return {"taken": await result.wait(timeout=60)}

    @get("/")
    async def hello(self) -> str:
        return "hello"


@component
class BrokerHealth(HealthIndicator):
    name = "orders"

    def __init__(self, orders: OrderClient) -> None:
        self.orders = orders

    def check(self) -> dict[str, str]:
        return {"status": "UP"}


async def ask(app: FastAPI, method: str, path: str, query: str = "") -> Any:
    """Ask an ASGI app, and return what it answers."""
    sent: list[dict[str, Any]] = []
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path}
    scope |= {"raw_path": path.encode(), "query_string": query.encode(), "headers": [], "scheme": "http"}
    scope |= {"server": ("shop", 80), "client": ("ada", 1), "root_path": ""}
    done = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if sent:
            await done.wait()
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    done.set()
    return json.loads(b"".join(message.get("body", b"") for message in sent))


async def main(container: Any) -> None:
    app = await container.aget(FastAPI)
    taken = [await ask(app, "POST", "/orders/7"), await ask(app, "POST", "/orders/8", "fail=true")]
    health = await ask(app, "GET", "/actuator/health")
    json.dump([*taken, health["status"]], sys.stdout)


if __name__ == "__main__":
    settings = {
        "celery": {"broker_url": "memory://", "backend_url": "cache+memory://"},
        "database": {"url": f"sqlite+aiosqlite:///{sys.argv[1]}"},
    }
    made = init(modules=[__name__], config=configuration(DictSource(settings)))
    with TaskRunner(made):
        asyncio.run(main(made))
