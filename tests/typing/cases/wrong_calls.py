"""Calls that do not fit the stub: each is an error where it stands."""
# mypy: disable-error-code=empty-body

from datetime import date, timedelta

from pico_celery import (
    CeleryClient,
    SendOptions,
    as_completed,
    celery,
    gather_results,
    partial_signature,
    send_all,
    send_task,
    signature,
    with_options,
)


@celery
class UserTaskClient(CeleryClient):
    @send_task("tasks.create_user")
    def create_user(self, username: str, email: str = "") -> dict[str, str]: ...

    @send_task("tasks.create_user")
    async def acreate_user(self, username: str) -> dict[str, str]: ...


def calls(client: UserTaskClient) -> None:
    client.create_user(1)  # expect-error
    client.create_user()  # expect-error
    client.create_user("alice", mail="a@x")  # expect-error
    client.create_user("alice", "a@x", True)  # expect-error
    client.update_user("alice")  # expect-error
    with_options(client, countdown=30).create_user(1)  # expect-error
    with_options(client, coutdown=30)  # expect-error
    with_options(client, countdown="30")  # expect-error
    with_options(client, priority=9.5)  # expect-error
    options: SendOptions = {"countdwn": 30}  # expect-error
    value: dict[str, str] = client.create_user("alice")  # expect-error (pyright)
    del value, options


async def awaited(client: UserTaskClient) -> None:
    await client.acreate_user(1)  # expect-error
    value: dict[str, str] = await client.acreate_user("alice")  # expect-error (pyright)
    number: int = await client.create_user("alice")  # expect-error
    seconds = await client.create_user("alice").wait(timeout="5")  # expect-error
    del value, number, seconds


@celery
class ParcelClient(CeleryClient):
    @send_task("parcels.ship", typed=True)
    def ship(self, parcel: date, *, within: timedelta) -> timedelta: ...

    @send_task("parcels.ship", typed="yes")  # expect-error
    def other(self) -> None: ...


async def values(client: ParcelClient) -> None:
    client.ship({"weight": 1}, within=timedelta(1))  # expect-error
    client.ship(date(2026, 1, 2), within=5)  # expect-error
    text: str = await client.ship(date(2026, 1, 2), within=timedelta(1))  # expect-error
    async for step in client.ship(date(2026, 1, 2), within=timedelta(1)).progress(date):
        text = step.details  # expect-error
    del text


async def many(client: UserTaskClient) -> None:
    await send_all([client.create_user])  # expect-error
    await send_all([signature(client.create_user, "alice")], timeout=3)  # expect-error
    value: list[str] = await gather_results(client.create_user("alice"), return_exceptions=True)  # expect-error
    async for result in as_completed(client.create_user("alice")):  # expect-error (pyright)
        del result
    del value


def signatures(client: UserTaskClient) -> None:
    signature(client.create_user, 1)  # expect-error
    signature(client.create_user)  # expect-error
    signature(client.acreate_user, "alice", mail="a@x")  # expect-error
    signature(client.create_user, "alice").set(coutdown=30)  # expect-error
    partial_signature(len, 1)  # expect-error
    value: dict[str, str] = signature(client.create_user, "alice").delay()  # expect-error (pyright)
    number: int = signature(client.create_user, "alice").delay().get()  # expect-error
    del value, number
