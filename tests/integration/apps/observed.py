"""Tasks of ours that Sentry observes."""

import asyncio
import os
from typing import Annotated, Any

import sentry_sdk
from celery import Celery
from celery.exceptions import Ignore, Reject
from pico_ioc import DictSource, component, configuration, init

from pico_celery import CeleryClient, Sensitive, TaskContext, celery, send_task, task
from tests.integration.apps.observing import observe_at


@component(scope="prototype")
class Unavailable:
    def __init__(self) -> None:
        raise LookupError("not there")


@component(scope="prototype")
class UnavailableTasks:
    def __init__(self, needed: Unavailable) -> None: ...

    @task("observed.unavailable")
    async def run(self, user: str, secret: Annotated[str, Sensitive]) -> None: ...


@component(scope="prototype")
class ObservedTasks:
    def __init__(self, context: TaskContext) -> None:
        self.context = context

    @task("observed.fail")
    async def fail(self, user: str, secret: Annotated[str, Sensitive]) -> None:
        del secret  # what the handler's own frame shows is the handler's affair
        raise LookupError(user)

    @task("observed.fail_in_a_group")
    async def fail_in_a_group(self, user: str, secret: Annotated[str, Sensitive]) -> None:
        del secret
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
            raise LookupError(user)

    @task("observed.give_up", max_retries=0)
    async def give_up(self, user: str, secret: Annotated[str, Sensitive]) -> None:
        del secret
        self.context.retry()

    @task("observed.give_up_because", max_retries=0)
    async def give_up_because(self, user: str, secret: Annotated[str, Sensitive]) -> None:
        del secret
        self.context.retry(exc=LookupError(user))

    @task("observed.fail_at_last", autoretry_for=(LookupError,), max_retries=0)
    async def fail_at_last(self, user: str, secret: Annotated[str, Sensitive]) -> None:
        del secret
        raise LookupError(user)

    @task("observed.exit")
    async def exit(self, user: str, secret: Annotated[str, Sensitive]) -> None:
        del secret
        raise SystemExit(user)

    @task("observed.time_out", soft_time_limit=0.2)
    async def time_out(self, user: str, secret: Annotated[str, Sensitive]) -> None:
        del secret
        await asyncio.Event().wait()

    @task("observed.time_out_hard", time_limit=0.2)
    async def time_out_hard(self, user: str, secret: Annotated[str, Sensitive]) -> None:
        del secret
        await asyncio.Event().wait()

    @task("observed.return")
    async def return_unencodable(self, user: str, secret: Annotated[str, Sensitive]) -> Any:
        return object()


@celery
class Relays(CeleryClient):
    @send_task("observed.fail_with_tag")
    async def fail(self, number: str) -> Any: ...

    @send_task("observed.fail_with_tag", headers={"sentry-propagate-traces": False})
    async def fail_elsewhere(self, number: str) -> Any: ...


@component(scope="prototype")
class ApartTasks:
    def __init__(self, context: TaskContext, relays: Relays) -> None:
        self.context = context
        self.relays = relays

    @task("observed.fail_with_tag")
    async def fail_with_tag(self, number: str) -> None:
        sentry_sdk.set_tag("number", number)
        await asyncio.sleep(0.1)
        await asyncio.create_task(self.tag_further(number))
        raise LookupError(number)

    async def tag_further(self, number: str) -> None:
        sentry_sdk.set_tag("child", number)

    @task("observed.relay")
    async def relay(self) -> None:
        sentry_sdk.capture_message("relayed")
        await self.relays.fail("with us")
        for _ in range(2):
            await self.relays.fail_elsewhere("by itself")

    @task("observed.control")
    async def control(self, how: str) -> str:
        if how == "retry" and not self.context.retries:
            self.context.retry(countdown=0)
        if how == "ignore":
            raise Ignore
        if how == "reject":
            raise Reject("not for us")
        return how


settings = {"broker_url": os.environ["TEST_BROKER_URL"], "backend_url": os.environ["TEST_BACKEND_URL"]}
container = init(modules=["pico_celery", __name__], config=configuration(DictSource({"celery": settings})))
app = container.get(Celery)
observe_at(os.environ["TEST_MOMENT"])
