"""A user's code: both checkers know what a call returns, and what waiting for it gives."""
# mypy: disable-error-code=empty-body

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Unpack, assert_type

from celery import Task, chain, group
from celery.result import AsyncResult
from pico_ioc import cleanup, component, configure, factory, provides

from pico_celery import (
    CeleryClient,
    Progress,
    SendOptions,
    TaskContext,
    TaskResult,
    TaskSignature,
    as_completed,
    celery,
    gather_results,
    partial_signature,
    send_all,
    send_all_sync,
    send_task,
    signature,
    task,
    with_options,
)
from pico_celery.errors import NotAllSentError


@celery
class UserTaskClient(CeleryClient):
    @send_task("tasks.create_user", queue="high_priority")
    def create_user(self, username: str, email: str = "") -> dict[str, str]: ...

    @send_task(name="tasks.create_user")
    async def acreate_user(self, username: str, email: str = "") -> dict[str, str]: ...

    @send_task("tasks.forget")
    def forget(self, username: str) -> None: ...

    @send_task("tasks.count")
    def count(self): ...  # type: ignore[no-untyped-def]  # as in the specification


@celery(scope="prototype")
class OtherClient(CeleryClient):
    @send_task("tasks.tag")
    def tag(self, *tags: str, colour: str) -> list[int]: ...


@component
class UserTasks:
    @task("tasks.create_user", max_retries=3, acks_late=True)
    async def create_user(self, username: str, email: str) -> dict[str, str]:
        return {"username": username, "email": email}


@component
class Service:
    def __init__(self, client: UserTaskClient, other: OtherClient) -> None:
        self.client = client
        self.other = other

    def sync(self) -> None:
        result = self.client.create_user("alice", email="a@x")
        assert_type(result, TaskResult[dict[str, str]])
        as_celerys: AsyncResult = result
        as_celerys.forget()
        assert_type(self.client.forget("alice"), TaskResult[None])
        assert_type(self.other.tag("a", "b", colour="red"), TaskResult[list[int]])

    async def asynchronous(self) -> dict[str, str]:
        assert_type(await self.client.create_user("alice"), dict[str, str])
        assert_type(await self.client.create_user("alice").wait(timeout=5), dict[str, str])
        result = await self.client.acreate_user("alice")
        assert_type(result, TaskResult[dict[str, str]])
        assert_type(await result, dict[str, str])
        assert_type(await (await self.client.acreate_user("alice")), dict[str, str])
        return await result

    def later(self) -> None:
        later = with_options(self.client, countdown=30, priority=9)
        assert_type(later, UserTaskClient)
        assert_type(later.create_user("alice", email="a@x"), TaskResult[dict[str, str]])


def with_every_kind_of_option(client: UserTaskClient, when: datetime) -> None:
    urgent: SendOptions = {"queue": "urgent", "expires": when, "publish_timeout": 3, "headers": {"tenant": "acme"}}
    stamps: dict[str, Any] = {"trace": "t-1"}
    assert_type(with_options(client, **urgent), UserTaskClient)
    assert_type(with_options(client, stamped_headers=list(stamps), **stamps), UserTaskClient)
    with_options(client, eta=when, retry_policy={"max_retries": 3}, link=client.create_user)


def for_tenant(client: UserTaskClient, tenant: str, **options: Unpack[SendOptions]) -> UserTaskClient:
    return with_options(with_options(client, **options), headers={"tenant": tenant})


class Audited(Task):  # type: ignore[misc]  # Celery has no types
    audit_level = 1


audit: dict[str, Any] = {"audit_level": 2}


class OptionTasks:
    @task(
        "tasks.options",
        autoretry_for=(ConnectionError, TimeoutError),
        retry_backoff=True,
        retry_backoff_max=60,
        rate_limit="10/m",
        soft_time_limit=1.5,
        throws=(ValueError,),
        pydantic=True,
        base=Audited,
        **audit,
    )
    async def run(self) -> None: ...


@factory
class Made:
    @provides(Audited)  # pyright: ignore[reportCallIssue]  # as docs/how-to/client.md says
    def audited(self) -> Audited:
        return Audited()


@component(scope="prototype")
class Configured:
    def __init__(self, audited: Audited) -> None:
        self.audited = audited

    @configure
    def prepare(self) -> None: ...

    @cleanup
    async def close(self) -> None: ...


def in_a_response(client: UserTaskClient) -> dict[str, str]:
    result = client.create_user("alice")
    assert_type(result.id, str)
    assert_type(result.state, str)
    assert_type(result.status, str)
    return {"id": result.id}


def waited_for(client: UserTaskClient) -> dict[str, str]:
    assert_type(client.create_user("alice").get(), dict[str, str])
    return client.create_user("alice").get(timeout=5)


async def several(numbers: list[TaskResult[int]], one: TaskResult[int], other: TaskResult[str]) -> None:
    assert_type(await gather_results(*numbers, timeout=5), list[int])
    assert_type(await gather_results(one, one), list[int])
    assert_type(await gather_results(one, other), tuple[int, str])
    assert_type(await gather_results(one, other, one, timeout=5), tuple[int, str, int])
    assert_type(await gather_results(one, other, one, other), tuple[int, str, int, str])
    await gather_results(one, other, one, other, one)
    assert_type(await gather_results(*numbers, return_exceptions=True), list[int | Exception])
    assert_type(await gather_results(one, other, return_exceptions=True), tuple[int | Exception, str | Exception])
    assert_type(await gather_results(one, other, return_exceptions=False), tuple[int, str])
    await gather_results(one, other, one, other, one, return_exceptions=True)
    async for step in one.progress(latest=True):
        assert_type(step, Progress)
    async for ended in as_completed(numbers, timeout=5):
        assert_type(ended, TaskResult[int])
        assert_type(await ended, int)
    number, text = await gather_results(one, other)
    assert_type(number, int)
    assert_type(text, str)


async def test_of_a_handler() -> None:
    assert_type(await UserTasks().create_user("alice", "a@x"), dict[str, str])


def of_an_id(task_id: str) -> TaskResult[int]:
    return TaskResult(task_id)


async def awaited_by_its_id(task_id: str) -> None:
    assert_type(await TaskResult[int](task_id), int)


def signatures(client: UserTaskClient, other: OtherClient) -> TaskResult[dict[str, str]]:
    made = signature(client.create_user, "alice", email="a@x")
    assert_type(made, TaskSignature[dict[str, str]])
    assert_type(signature(client.acreate_user, "alice"), TaskSignature[dict[str, str]])
    assert_type(signature(other.tag, "a", "b", colour="red"), TaskSignature[list[int]])
    assert_type(partial_signature(other.tag, colour="red"), TaskSignature[list[int]])
    assert_type(made.set(countdown=3), TaskSignature[dict[str, str]])
    assert_type(made.clone(), TaskSignature[dict[str, str]])
    assert_type(made.freeze(), TaskResult[dict[str, str]])
    assert_type(made.delay(), TaskResult[dict[str, str]])
    chain(made, partial_signature(other.tag, colour="red"))
    group(made, made)
    with_options(client, link=signature(client.forget, "alice"))
    return made.apply_async(countdown=3)


async def many(client: UserTaskClient, other: OtherClient) -> None:
    results = await send_all(signature(client.acreate_user, name) for name in ("alice", "bob"))
    assert_type(results, list[TaskResult[dict[str, str]]])
    assert_type(send_all_sync([signature(other.tag, "a", colour="red")]), list[TaskResult[list[int]]])
    mixed: list[TaskSignature[Any]] = [signature(client.create_user, "alice"), signature(other.tag, "a", colour="red")]
    await send_all(mixed, publish_timeout=60)
    try:
        send_all_sync(mixed)
    except NotAllSentError as error:
        assert_type(error.causes, dict[int, Exception])
        del error.results[0]


@dataclass
class Receipt:
    price: int
    arrives_in: timedelta


@celery
class ParcelClient(CeleryClient):
    @send_task("parcels.ship", typed=True)
    async def ship(self, *parcels: Receipt, within: timedelta) -> list[Receipt]: ...


class ParcelTasks:
    @task("parcels.ship", typed=True)
    async def ship(self, *parcels: Receipt, within: timedelta) -> list[Receipt]:
        return [*parcels]


async def values(client: ParcelClient) -> None:
    result = await client.ship(Receipt(1, timedelta(1)), within=timedelta(2))
    assert_type(result, TaskResult[list[Receipt]])
    assert_type((await result)[0].arrives_in, timedelta)
    assert_type(await gather_results(result, result), list[list[Receipt]])
    assert_type(result.get(), list[Receipt])
    async for step in result.progress():
        assert_type(step, Progress)
    async for typed in result.progress(Receipt):
        assert_type(typed.details, Receipt | None)


async def tells(context: TaskContext) -> Progress:
    await context.progress(1, 2, details=Receipt(1, timedelta(1)))
    return Progress(1, 2)
