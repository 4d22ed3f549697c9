"""Clients and a real gevent worker: tasks that send tasks and wait for them."""

import asyncio
import types
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import aiohttp
import pytest
from aiohttp import web
from celery import Celery
from pico_ioc import DictSource, component, configuration, init
from pydantic import BaseModel

from pico_celery import CeleryClient, ContextVariableInterceptor, Sensitive, celery, gather_results, send_task
from pico_celery_core.errors import CallError, HandlerArgumentsError, ResultTimeoutError
from tests import services
from tests.integration.workers import Worker, running_worker, sender
from tests.servers import own_redis

pytestmark = [
    pytest.mark.services,
    pytest.mark.smoke,
    pytest.mark.filterwarnings("ignore:.*setex.*:DeprecationWarning"),
]


tenant: ContextVar[str] = ContextVar("tenant")


@component
class Tenant(ContextVariableInterceptor):
    def __init__(self) -> None:
        super().__init__(tenant, "x-tenant")


@dataclass
class Parcel:
    """As in apps/sending.py, but of a package of the client's own."""

    weight: Decimal
    colours: set[Literal["red", "blue"]]


class Receipt(BaseModel):
    parcels: list[Parcel]
    arrives: dict[UUID, timedelta]


@celery
class Client(CeleryClient):
    """As in apps/sending.py, which a sender need not import."""

    @send_task("sending.parent")
    async def parent(self, count: int) -> dict[str, Any]: ...

    @send_task("sending.total")
    async def total(self, order: Any) -> dict[str, Any]: ...

    @send_task("sending.login")
    async def login(self, user: str, password: Annotated[str, Sensitive], how: str) -> str: ...

    @send_task("sending.autoretried")
    async def autoretried(self, password: Annotated[str, Sensitive]) -> str: ...

    @send_task("sending.build")
    async def build(self, steps: int) -> str: ...

    @send_task("sending.ship")
    async def ship(self, parcel: Parcel, pause: timedelta, *copies: Parcel) -> Receipt: ...


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with services.redis_database() as url:
        yield url


@pytest.fixture(scope="module")
def worker(url: str) -> Iterator[Worker]:
    with running_worker("sending", "-P", "gevent", "-c", "50", "-E", broker=url, backend=url) as worker:
        yield worker


@pytest.fixture
def client(worker: Worker, url: str) -> Iterator[Client]:
    with Celery("sender", broker=url, backend=url, set_as_current=False) as app:
        yield connected(app)


def connected(app: Celery) -> Client:
    module = types.ModuleType("application")
    vars(module).update(Client=Client, Tenant=Tenant)
    config = configuration(DictSource({"celery": {}}))
    return init(modules=["pico_celery_client", module], config=config, overrides={Celery: app}).get(Client)


async def test_values_of_declared_types_arrive_as_such(client, url):
    parcel, copy = Parcel(Decimal("1.50"), {"red", "blue"}), Parcel(Decimal(2), set())
    result = await client.ship(parcel, timedelta(minutes=5), copy)
    receipt = await result.wait(timeout=60)
    assert receipt == Receipt(parcels=[parcel, copy], arrives={UUID(result.id): timedelta(minutes=10)})
    with pytest.raises(CallError, match=r"the argument 'parcel' does not fit: weight: Input should be"):
        await client.ship({"weight": "heavy", "colours": []}, timedelta())  # type: ignore[arg-type]
    with sender(url, url) as app:
        # Any other Celery program can send the same, and learns what does not fit.
        result = app.send_task("sending.ship", [{"weight": "1", "colours": ["green"]}, "PT1S"])
        with pytest.raises(HandlerArgumentsError, match=r"'parcel': colours\[0\]: Input should be 'red' or 'blue'"):
            await asyncio.to_thread(result.get, timeout=30)


async def test_a_task_awaits_the_tasks_that_it_sends_and_is_their_parent(client):
    result = await client.parent(10)
    seen = await result.wait(timeout=60)
    assert seen["id"] == result.id
    assert [child["number"] for child in seen["children"]] == list(range(10))
    assert {(child["parent"], child["root"]) for child in seen["children"]} == {(result.id, result.id)}
    assert seen["known to celery"] == sorted(child["id"] for child in seen["children"])


async def test_many_tasks_do_so_at_once(client):
    results = [await client.parent(3) for _ in range(40)]
    seen = await gather_results(*results, timeout=200)
    for result, values in zip(results, seen, strict=True):
        assert {child["parent"] for child in values["children"]} == {result.id}


async def test_a_context_variable_goes_with_tasks_and_those_that_they_send_many_at_once(client):
    async def tenants(number: int) -> set[str]:
        tenant.set(f"tenant {number}")
        result = await client.parent(10)
        return {child["tenant"] for child in (await result.wait(timeout=200))["children"]}

    seen = await asyncio.gather(*(asyncio.create_task(tenants(number)) for number in range(40)))
    assert seen == [{f"tenant {number}"} for number in range(40)]
    unset = await (await client.parent(1)).wait(timeout=60)
    assert [child["tenant"] for child in unset["children"]] == ["nobody's"]


async def test_waiting_on_another_backend_than_the_workers_ends_and_the_worker_says_why(worker, url):
    with own_redis() as server, sender(url, server.url) as app:
        app.conf.pico_result_timeout = 2
        client = connected(app)
        result = await client.parent(1)
        worker.wait_for_log(rf"looks for its result in '{address(server.url)}', but .* in '{address(url)}'")
        with pytest.raises(ResultTimeoutError, match="backend_url"):
            await result


def address(url: str) -> str:
    return url.replace("127.0.0.1", "localhost")


async def test_a_web_server_ends_though_a_request_waits_for_what_never_comes(worker, url):
    """It lets its requests finish, and has no limit for that."""
    with own_redis() as server, sender(url, server.url) as app:
        app.conf.pico_result_timeout = 2
        client = connected(app)
        sent = asyncio.Event()

        async def confirm(request: web.Request) -> web.Response:
            result = await client.parent(1)
            sent.set()
            return web.json_response(await result)

        application = web.Application()
        application.router.add_get("/", confirm)
        runner = web.AppRunner(application, shutdown_timeout=600)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as session:
            request = asyncio.ensure_future(session.get("/"))
            await sent.wait()
            await runner.cleanup()
            assert (await request).status >= 500


async def test_a_model_travels_to_a_pydantic_handler_and_back_as_plain_data(client):
    from pydantic import BaseModel

    class Order(BaseModel):
        id: int
        lines: list[str]

    result = await client.total(Order(id=7, lines=["tea"]))
    assert await result.wait(timeout=60) == {"id": 7, "lines": ["tea", "total"]}


async def test_progress_is_followed_from_a_worker(client):
    result = await client.build(5)
    steps = [step.current async for step in result.progress()]
    assert steps == sorted(steps)
    assert await result == "built"


@pytest.mark.parametrize("how", ["as it was", "other arguments", "autoretry"])
async def test_a_sensitive_argument_stays_hidden_when_the_task_is_retried(client, worker, url, how):
    """In no event and no line of the worker's log, neither the first time nor the second."""
    events: list[dict[str, Any]] = []
    app = Celery("events", broker=url, set_as_current=False)
    with app.connection_for_read() as connection:

        def on_event(event: dict[str, Any]) -> None:
            events.append(event)
            if event["type"] == "task-succeeded" and event["uuid"] == result.id:
                receiver.should_stop = True

        receiver = app.events.Receiver(connection, handlers={"*": on_event})
        with receiver.consumer_context() as (reading, _, _):
            reading.drain_events(timeout=60)  # a first event, such as a heartbeat, shows that the subscription stands
            if how == "autoretry":
                result = await client.autoretried("s3cret")
            else:
                result = await client.login("ada", "s3cret", how)
            value = await result.wait(timeout=60)
            while not receiver.should_stop:
                reading.drain_events(timeout=60)
    app.close()
    received = [event for event in events if event["type"] == "task-received" and event["uuid"] == result.id]
    assert [event["retries"] for event in received] == [0, 1]
    assert value == ("s3cret-again" if how == "other arguments" else "s3cret")
    assert "s3cret" not in "".join(f"{event['args']} {event['kwargs']}" for event in received)
    assert all("***" in event["args"] for event in received)
    assert not [line for line in worker.lines if "s3cret" in line and "succeeded in" not in line]
