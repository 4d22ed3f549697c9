"""Tasks of ours that Sentry observes."""

import asyncio
import os
from typing import Annotated, Any

from celery import Celery
from pico_ioc import DictSource, component, configuration, init

from pico_celery import Sensitive, TaskContext, task
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


settings = {"broker_url": os.environ["TEST_BROKER_URL"], "backend_url": os.environ["TEST_BACKEND_URL"]}
container = init(modules=["pico_celery", __name__], config=configuration(DictSource({"celery": settings})))
app = container.get(Celery)
observe_at(os.environ["TEST_MOMENT"])
