"""The web service: it sends orders, shows how far they are, and cancels them. It needs `pico-celery-client` alone."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from celery import Celery
from celery.exceptions import TaskRevokedError
from fastapi import Depends, FastAPI
from fastapi.responses import FileResponse, StreamingResponse
from pico_ioc import init
from pydantic import BaseModel, Field

from examples.shop.config import config
from examples.shop.contracts import PRODUCTS, STEPS
from examples.shop.web.client import OrderClient
from pico_celery import TaskResult
from pico_celery.errors import ResultTimeoutError

container = init(modules=["pico_celery", "examples.shop.web.client"], config=config)
app = FastAPI(title="Shop")

Orders = Annotated[OrderClient, Depends(lambda: container.get(OrderClient))]


class Order(BaseModel):
    product: str = Field(pattern=f"^({'|'.join(PRODUCTS)})$")
    address: str = Field(min_length=1, max_length=200)


def result_of(order: str) -> TaskResult[str]:
    """Return the result of an order's task: its number is the task's id."""
    return TaskResult[str](order, app=container.get(Celery))


Result = Annotated[TaskResult[str], Depends(result_of)]


@app.get("/")
async def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("page.html"))


@app.get("/products")
async def products() -> dict[str, Any]:
    return {"products": PRODUCTS, "steps": STEPS}


@app.post("/orders", status_code=201)
async def order(orders: Orders, wanted: Order) -> dict[str, str]:
    result = await orders.fulfil(wanted.product, address=wanted.address)
    return {"order": result.id}


@app.get("/orders/{order}/events")
async def events(result: Result) -> StreamingResponse:
    return StreamingResponse(follow(result), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


@app.delete("/orders/{order}", status_code=202)
async def cancel(result: Result) -> None:
    # It talks to the broker and blocks meanwhile. What comes of it, the events tell.
    await asyncio.to_thread(result.revoke, terminate=True)


async def follow(result: TaskResult[str]) -> AsyncIterator[str]:
    """Yield each step of an order, and how it ended, as server-sent events.

    Steps may be missed by a page that listens late. Each says how much is done, so that the newest one is enough.
    """
    try:
        async for step in result.progress():
            yield event("step", {"done": step.current, "text": step.message})
        yield event("end", {"state": "delivered", "text": await result})
    except ResultTimeoutError:
        return  # the browser connects anew
    except TaskRevokedError:
        yield event("end", {"state": "cancelled", "text": "Cancelled."})
    except Exception as error:  # noqa: BLE001  # whatever the task raised is what the visitor has to know
        yield event("end", {"state": "failed", "text": str(error)})


def event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
