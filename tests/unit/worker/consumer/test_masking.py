"""What a worker shows of messages that no task takes, and in its pools' log."""

import json
import logging
from typing import Annotated, Any

import pytest
from kombu.exceptions import DecodeError
from pico_ioc import component

from pico_celery_core.decorators import task
from pico_celery_core.sensitive import Sensitive
from pico_celery_worker.consumer.masking import PoolLogFilter, UntakenMessages, shorten_pool_log
from tests.unit.worker.applications import app_of
from tests.unit.worker.requests import message_of

SECRET = "the-secret"


@component(scope="prototype")
class Open:
    @task("untaken.plain")
    async def plain(self, user: str) -> None: ...


@component(scope="prototype")
class Secretive:
    @task("untaken.secret")
    async def secret(self, password: Annotated[str, Sensitive]) -> None: ...


def message(changed: dict[str, Any], body: Any = None) -> Any:
    made = message_of("untaken.secret", argsrepr=f"('{SECRET}',)")
    made.body = json.dumps([[SECRET], {}, {}] if body is None else body)
    made.headers = {name: value for name, value in {**made.headers, **changed}.items() if value is not None}
    return made


def shown(app: Any, received: Any) -> str:
    calls: list[Any] = []
    show = UntakenMessages(app).hidden(lambda body, message, *more: calls.append((body, message.headers, more)))
    show(None, received, "error")
    return repr(calls)


@pytest.mark.parametrize(
    "received",
    [
        message({}),
        message({"task": "untaken.unknown"}),
        message({"task": ["untaken.secret"]}),
        message({"task": None}),
        message({"task": None}, {"task": "untaken.secret"}),
        message({"task": "untaken.plain", "argsrepr": "***"}),
    ],
)
def test_what_may_be_for_a_task_with_sensitive_arguments_is_not_shown(received):
    headers = received.headers
    found = shown(app_of(Open, Secretive), received)
    assert found.startswith("[('***', {")
    assert SECRET not in found
    assert "'error'" in found
    assert received.headers is headers, "who hears of it has the message as it came"


@pytest.mark.parametrize("changed", [{"task": "untaken.plain"}, {"task": None, "argsrepr": None}])
def test_other_messages_are_shown(changed):
    body = {"task": "untaken.plain", "args": [SECRET]}
    assert shown(app_of(Open, Secretive), message(changed, body)).count(SECRET) == (2 if changed["task"] else 1)


def test_of_a_large_body_there_is_shown_no_more_than_celery_shows():
    assert len(shown(app_of(Open), message({}, ["x" * 100_000]))) < 2000


def test_an_app_without_sensitive_arguments_shows_all():
    assert SECRET in shown(app_of(Open), message({"task": "untaken.unknown"}))


@pytest.mark.parametrize(("name", "body"), [("untaken.secret", "***"), ("untaken.plain", f'["{SECRET}')])
def test_what_cannot_be_decoded_is_shown_by_the_same_rule(name, body):
    calls: list[Any] = []
    received = message({"task": name})
    received.body = f'["{SECRET}'
    error = DecodeError(UnicodeDecodeError("utf-8", received.body.encode(), 0, 1, "invalid"))
    show = UntakenMessages(app_of(Open, Secretive)).hidden_undecoded(
        lambda *args: calls.append((args[0].body, args[1]))
    )
    show(received, error)
    [(told, raised)] = calls
    assert told == body
    assert received.body == f'["{SECRET}'
    assert (SECRET in repr(raised)) is (name == "untaken.plain")
    assert "invalid" in str(raised)


def test_the_pools_debug_log_says_nothing_of_a_message(caplog):
    shorten_pool_log()
    shorten_pool_log()
    logger = logging.getLogger("celery.pool")
    assert sum(isinstance(present, PoolLogFilter) for present in logger.filters) == 1
    with caplog.at_level(logging.DEBUG, logger="celery.pool"):
        # As celery.concurrency.base.BasePool.apply_async has it, in Celery 5.7.0.
        logger.debug("TaskPool: Apply %s (args:%s kwargs:%s)", "trace", f"('a.task', 'an-id', {{'x': '{SECRET}'", "{}")
        logger.debug("TaskPool: Apply %s (args:%s kwargs:%s)", "trace", f"(5, '{SECRET}'", "{}")
    assert [record.getMessage() for record in caplog.records] == [
        "TaskPool: Apply task a.task[an-id]",
        "TaskPool: Apply task ",
    ]
