"""A client that gets into every situation and shows all it can: `python -m ... <situation>`."""

import asyncio
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from celery import Celery, chain, chord
from celery.result import AsyncResult

from pico_celery import CelerySettings, TaskResult, with_options
from pico_celery_core.metadata import send_spec
from tests.integration.apps.security import Accounts, Outcomes, app, container

PASSWORD = os.environ["TEST_SECRET"]
accounts = container.get(Accounts)
stranger = Celery("stranger", broker=app.conf.broker_url, backend=app.conf.result_backend, set_as_current=False)


def show(*what: object) -> None:
    print(*what, flush=True)  # noqa: T201


def attempt(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call, and show what comes of it: what it returns, or its traceback."""
    try:
        value = function(*args, **kwargs)
    except Exception:  # noqa: BLE001
        show(traceback.format_exc())
    else:
        show(function, repr(value), str(value), vars(value) if isinstance(value, AsyncResult) else "")
        return value
    return None


def finish(result: Any) -> None:
    attempt(result.get, timeout=60)
    show(result.state, result.traceback)


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return value


def work() -> None:
    """Send tasks that succeed, fail, retry, wait, are revoked, and cannot be sent."""
    for result in (
        accounts.open("ada", PASSWORD, token=PASSWORD),
        accounts.open(user="ada", password=PASSWORD),
        accounts.fail("ada", PASSWORD),
        accounts.retry("ada", PASSWORD),
        accounts.retry_plain("ada", PASSWORD),
        accounts.unknown("ada", PASSWORD),
        # By somebody who has no stub:
        stranger.send_task("accounts.retry", ["ada"], {"password": PASSWORD}),
    ):
        show(repr(result))
        finish(result)
    attempt(accounts.open, "ada", PASSWORD, 1, 2)
    attempt(accounts.open, "ada", PASSWORD, user="eve")
    attempt(accounts.open, "ada", {PASSWORD})
    attempt(asyncio.run, accounts.aopen("ada", {PASSWORD}))
    waiting = [accounts.wait("ada", PASSWORD), accounts.wait_plain("ada", password=PASSWORD)]
    later = with_options(accounts, countdown=60).open("ada", PASSWORD)
    inspect = app.control.inspect(timeout=5, limit=1)
    until(lambda: len(next(iter((inspect.active() or {}).values()), [])) == len(waiting))
    for question in ("active", "scheduled", "reserved", "revoked", "stats", "conf", "report", "registered", "memdump"):
        show(question, getattr(inspect, question)())
    show(inspect.query_task(waiting[0].id, later.id))
    for result in (*waiting, later):
        result.revoke(terminate=True)
    for result in waiting:
        finish(result)


def outcomes() -> None:
    """Have tasks end in every way, sent by stubs and by somebody who has none and marks nothing."""
    results = []
    for name, stub in vars(Outcomes).items():
        spec = send_spec(stub)
        if spec is not None:
            sent = [getattr(container.get(Outcomes), name)("ada", PASSWORD)]
            for args, kwargs in ((["ada", PASSWORD], {}), (["ada"], {"password": PASSWORD})):
                sent.append(stranger.send_task(spec.name, args, kwargs, **spec.options))
            results += sent if name != "ignore" else []  # which has no result
    # So long that what is shown of it breaks off.
    results.append(stranger.send_task("accounts.open", ["ada " * 500, PASSWORD]))
    # In a message's third part, and for a task that the worker itself sends.
    link = stranger.signature("accounts.open", ["ada", PASSWORD], immutable=True)
    results.append(stranger.send_task("accounts.open", ["ada", PASSWORD], link=link, link_error=link))
    results.append(stranger.send_task("accounts.fail", ["ada", PASSWORD], chain=[link], link_error=link))
    results.append(chain(link, link, app=stranger).apply_async())
    results.append(chord([link, link], link, app=stranger).apply_async())
    results.append(stranger.send_task("accounts.open", ["ada", PASSWORD, PASSWORD], {"unexpected": PASSWORD}))
    # Whose sender shows it though it masks something else.
    shown = {"argsrepr": f"('***', '{PASSWORD}')", "kwargsrepr": "{}"}
    results.append(stranger.send_task("accounts.open", ["ada", PASSWORD], **shown))
    results.append(stranger.send_task("accounts.open", ["***", PASSWORD]))
    for result in results:
        attempt(result.get, timeout=60)
        show(result.id, result.state, result.traceback, repr(result.info))
    invalid()


def invalid() -> None:
    """Send what is no message of a task's, or not quite."""
    header: dict[str, Any] = {"task": "accounts.open", "id": "an-id", "lang": "py"}
    whole = json.dumps([["ada", PASSWORD], {}, {}])
    for changed, body in (
        ({"timelimit": [5]}, whole),
        ({"eta": "yesterday"}, whole),
        ({"id": None}, whole),
        ({"task": "accounts.unknown"}, whole),
        ({"task": ["accounts.open"]}, whole),
        ({"argsrepr": f"('ada', '{PASSWORD}')", "shadow": 5}, whole),
        ({"compression": "application/x-nothing"}, whole),
        ({}, json.dumps([["ada", PASSWORD], {}])),
        ({}, json.dumps({"password": PASSWORD})),
        ({}, whole[:-3]),
    ):
        publish(body, {**header, **changed})
    for call in (["ada", PASSWORD], {"password": PASSWORD}):
        publish(json.dumps({"task": "accounts.open", "id": "an-id", "args": call, "kwargs": call, "retries": []}), {})
    old = {"task": "accounts.open", "id": "an-old-id", "args": ["ada", PASSWORD], "kwargs": {}}
    publish(json.dumps(old), {})
    finish(app.AsyncResult("an-old-id"))
    publish(json.dumps({"no task": PASSWORD}), {})


def publish(body: str, headers: dict[str, Any]) -> None:
    with stranger.producer_pool.acquire() as producer:
        options = {"content_type": "application/json", "content_encoding": "utf-8"}
        producer.publish(body, headers=headers, routing_key="celery", **options)


def settings() -> None:
    """Show what can be shown of the settings."""
    made = container.get(CelerySettings)
    show(repr(made), str(made), f"{made}")
    show(repr(app), app.conf.humanize(with_defaults=False), app.bugreport())
    show(app.connection_for_write().as_uri(), repr(app.connection_for_write()), app.backend.as_uri(), repr(app.backend))
    show(json.dumps(app.conf.table(censored=True), default=repr))
    attempt(lambda: CelerySettings(broker_url=app.conf.broker_url, brokr_url="x"))
    attempt(lambda: CelerySettings(backend_url=app.conf.result_backend, result_backend="redis://elsewhere"))


def unreachable() -> None:
    """Send where nobody listens, and wait for results there."""
    attempt(with_options(accounts, retry=False).open, "ada", PASSWORD)

    async def send() -> None:
        await with_options(accounts, publish_timeout=0.5).aopen("ada", PASSWORD)

    attempt(asyncio.run, send())

    async def wait() -> None:
        await TaskResult("an-id", app=app).wait(timeout=0.5)

    attempt(asyncio.run, wait())


def send() -> None:
    """Send a task and wait for nothing."""
    accounts.open("ada", PASSWORD)


def wait() -> None:
    """Send a task and await its result."""

    async def send_and_wait() -> None:
        result = await accounts.aopen("ada", PASSWORD)
        show("awaited", await result.wait(timeout=60))

    attempt(asyncio.run, send_and_wait())


SITUATIONS = {
    "work": work,
    "settings": settings,
    "unreachable": unreachable,
    "send": send,
    "await": wait,
    "outcomes": outcomes,
}

logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
for situation in sys.argv[1:]:
    SITUATIONS[situation]()
