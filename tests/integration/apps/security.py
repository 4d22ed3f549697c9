"""Tasks that get secrets, and clients that send them. Settings come from the environment, some as `${ENV:...}`."""

import asyncio
import hashlib
import json
import os
from typing import Annotated, Any

from celery import Celery
from celery.exceptions import Ignore, Reject
from pico_ioc import DictSource, component, configuration, init

from pico_celery import CeleryClient, Sensitive, TaskContext, celery, send_task, task


@component(scope="prototype")
class AccountTasks:
    """Marks what is secret, as `Accounts` does."""

    def __init__(self, context: TaskContext) -> None:
        self.context = context

    @task("accounts.open")
    async def open(self, user: str, password: Annotated[str, Sensitive], **more: Annotated[str, Sensitive]) -> str:
        return hashlib.sha256(password.encode()).hexdigest()

    @task("accounts.fail")
    async def fail(self, user: str, password: Annotated[str, Sensitive]) -> None:
        raise PermissionError(f"{user} may not log in")

    @task("accounts.retry", max_retries=1)
    async def retry(self, user: str, password: Annotated[str, Sensitive]) -> str:
        if not self.context.retries:
            self.context.retry(countdown=0.1, exc=PermissionError("once more"))
        return "opened"

    @task("accounts.wait")
    async def wait(self, user: str, password: Annotated[str, Sensitive]) -> None:
        await asyncio.Event().wait()

    @task("accounts.give_up", max_retries=1)
    async def give_up(self, user: str, password: Annotated[str, Sensitive]) -> None:
        self.context.retry(countdown=0)

    @task("accounts.give_up_in_a_group", max_retries=0)
    async def give_up_in_a_group(self, user: str, password: Annotated[str, Sensitive]) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.give_up(user, password))

    @task("accounts.give_up_with_others", bind=True, max_retries=1)
    async def give_up_with_others(self, task: Any, user: str, password: Annotated[str, Sensitive]) -> None:
        task.retry(args=[user, password], kwargs={}, countdown=0)

    @task("accounts.fail_and_retry", autoretry_for=(PermissionError,), max_retries=1, default_retry_delay=0)
    async def fail_and_retry(self, user: str, password: Annotated[str, Sensitive]) -> None:
        raise PermissionError(f"{user} may not log in")

    @task("accounts.reject")
    async def reject(self, user: str, password: Annotated[str, Sensitive]) -> None:
        raise Reject("refused", requeue=False)

    @task("accounts.ignore")
    async def ignore(self, user: str, password: Annotated[str, Sensitive]) -> None:
        raise Ignore

    @task("accounts.replace", bind=True)
    async def replace(self, task: Any, user: str, password: Annotated[str, Sensitive]) -> str:
        raise task.replace(task.app.tasks["accounts.open"].s(user, password))

    @task("accounts.exit")
    async def exit(self, user: str, password: Annotated[str, Sensitive]) -> None:
        raise SystemExit(1)


@component(scope="prototype")
class PlainTasks:
    """Does not mark what its stub marks."""

    def __init__(self, context: TaskContext) -> None:
        self.context = context

    @task("plain.retry", max_retries=1)
    async def retry(self, user: str, password: str) -> str:
        if not self.context.retries:
            self.context.retry(countdown=0.1)
        return "opened"

    @task("plain.wait")
    async def wait(self, user: str, password: str) -> None:
        await asyncio.Event().wait()


@celery
class Accounts(CeleryClient):
    @send_task("accounts.open")
    def open(self, user: str, password: Annotated[str, Sensitive], **more: Annotated[str, Sensitive]) -> str: ...
    @send_task("accounts.open")
    async def aopen(self, user: str, password: Annotated[str, Sensitive]) -> str: ...
    @send_task("accounts.fail")
    def fail(self, user: str, password: Annotated[str, Sensitive]) -> None: ...
    @send_task("accounts.retry")
    def retry(self, user: str, password: Annotated[str, Sensitive]) -> str: ...
    @send_task("accounts.wait")
    def wait(self, user: str, password: Annotated[str, Sensitive]) -> None: ...
    @send_task("plain.retry")
    def retry_plain(self, user: str, password: Annotated[str, Sensitive]) -> str: ...
    @send_task("plain.wait")
    def wait_plain(self, user: str, password: Annotated[str, Sensitive]) -> None: ...
    @send_task("accounts.unknown")
    def unknown(self, user: str, password: Annotated[str, Sensitive]) -> str: ...


@celery
class Outcomes(CeleryClient):
    """Stubs for what ends in each way that a task can end."""

    @send_task("accounts.give_up")
    def give_up(self, user: str, password: Annotated[str, Sensitive]) -> None: ...
    @send_task("accounts.give_up_in_a_group")
    def give_up_in_a_group(self, user: str, password: Annotated[str, Sensitive]) -> None: ...
    @send_task("accounts.give_up_with_others")
    def give_up_with_others(self, user: str, password: Annotated[str, Sensitive]) -> None: ...
    @send_task("accounts.fail_and_retry")
    def fail_and_retry(self, user: str, password: Annotated[str, Sensitive]) -> None: ...
    @send_task("accounts.replace")
    def replace(self, user: str, password: Annotated[str, Sensitive]) -> str: ...
    @send_task("accounts.exit")
    def exit(self, user: str, password: Annotated[str, Sensitive]) -> None: ...
    @send_task("accounts.wait", soft_time_limit=0.3)
    def time_out(self, user: str, password: Annotated[str, Sensitive]) -> None: ...
    @send_task("accounts.wait", time_limit=0.3)
    def end_hard(self, user: str, password: Annotated[str, Sensitive]) -> None: ...
    @send_task("accounts.open", expires=-1)
    def expire(self, user: str, password: Annotated[str, Sensitive]) -> str: ...
    @send_task("accounts.reject")
    def reject(self, user: str, password: Annotated[str, Sensitive]) -> None: ...
    @send_task("accounts.ignore")
    def ignore(self, user: str, password: Annotated[str, Sensitive]) -> None: ...


settings: dict[str, Any] = {
    "broker_url": "${ENV:TEST_BROKER_URL}",
    "backend_url": "${ENV:TEST_BACKEND_URL}",
    "task_send_sent_event": True,
    **json.loads(os.environ.get("TEST_SETTINGS", "{}")),
}
container = init(modules=["pico_celery", __name__], config=configuration(DictSource({"celery": settings})))
app = container.get(Celery)
if app.conf.task_serializer == "auth":
    app.setup_security()
