"""The options of a message: each as a worker sees it, whether the stub has it or `with_options`."""

import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import signals, signature
from kombu import Exchange, Queue

from pico_celery_client import CeleryClient, celery, with_options
from pico_celery_core import send_task
from pico_celery_core.errors import MissingStampError, OptionValueError, UnknownOptionError

TOPICS = Queue("topics", Exchange("topics", type="topic"), routing_key="mail.#")
SOON = datetime.now(UTC) + timedelta(hours=1)


def when(text: str) -> float:
    """Return how far away a message's time is, in seconds."""
    return (datetime.fromisoformat(text) - datetime.now(UTC)).total_seconds()


OPTIONS: dict[str, tuple[dict[str, Any], Callable[[Any], Any], Any]] = {
    "headers": ({"headers": {"tenant": "acme"}}, lambda m: m.headers["tenant"], "acme"),
    "priority": ({"priority": 7}, lambda m: m.properties["priority"], 7),
    "eta": ({"eta": SOON}, lambda m: m.headers["eta"], SOON.isoformat()),
    "countdown": ({"countdown": 60}, lambda m: 50 < when(m.headers["eta"]) <= 60, True),
    "expires": ({"expires": 60}, lambda m: 50 < when(m.headers["expires"]) <= 60, True),
    "expires at a time": ({"expires": SOON}, lambda m: m.headers["expires"], SOON.isoformat()),
    "expires in the broker": ({"expires": 60}, lambda m: m.properties["expiration"], "60000"),
    "queue": ({"queue": "slow"}, lambda m: m.delivery_info["routing_key"], "slow"),
    "routing_key": (
        {"exchange": "topics", "routing_key": "mail.urgent"},
        lambda m: (m.delivery_info["exchange"], m.delivery_info["routing_key"]),
        ("topics", "mail.urgent"),
    ),
    "link": ({"link": signature("tasks.after")}, lambda m: m.embed["callbacks"][0]["task"], "tasks.after"),
    "link_error": ({"link_error": signature("tasks.broken")}, lambda m: m.embed["errbacks"][0]["task"], "tasks.broken"),
    "chain": ({"chain": [signature("tasks.next")]}, lambda m: m.embed["chain"][0]["task"], "tasks.next"),
    "task_id": ({"task_id": "the-id"}, lambda m: m.id, "the-id"),
    "ignore_result": ({"ignore_result": True}, lambda m: m.headers["ignore_result"], True),
    "shadow": ({"shadow": "a nicer name"}, lambda m: m.headers["shadow"], "a nicer name"),
    "stamps": (
        {"stamped_headers": ["trace"], "trace": "t-1"},
        lambda m: (m.headers["stamped_headers"], m.headers["stamps"]),
        (["trace"], {"trace": "t-1"}),
    ),
    "time limits": (
        {"time_limit": 20, "soft_time_limit": 10},
        lambda m: m.headers["timelimit"],
        [20, 10],
    ),
    "group": ({"group_id": "g", "group_index": 3}, lambda m: (m.headers["group"], m.headers["group_index"]), ("g", 3)),
    "parents": (
        {"root_id": "r", "parent_id": "p"},
        lambda m: (m.headers["root_id"], m.headers["parent_id"]),
        ("r", "p"),
    ),
    "retries": ({"retries": 2}, lambda m: m.headers["retries"], 2),
    "reply_to": ({"reply_to": "answers"}, lambda m: m.properties["reply_to"], "answers"),
    "compression": ({"compression": "zlib"}, lambda m: m.headers["compression"], "application/x-gzip"),
    "delivery_mode": ({"delivery_mode": 1}, lambda m: m.properties["delivery_mode"], 1),
    "properties of AMQP": ({"app_id": "shop"}, lambda m: m.properties["app_id"], "shop"),
    "argsrepr": ({"argsrepr": "(...)"}, lambda m: m.headers["argsrepr"], "(...)"),
}

every_option = pytest.mark.parametrize(("options", "seen", "expected"), OPTIONS.values(), ids=OPTIONS)


@pytest.fixture(autouse=True)
def queues(app):
    app.conf.task_queues = [Queue("celery", Exchange("celery")), TOPICS]
    with app.connection_for_write() as connection:
        TOPICS.bind(connection.default_channel).declare()


def client_with(**options: Any) -> type:
    @celery
    class Client(CeleryClient):
        @send_task("tasks.run", **options)
        def run(self, number: int) -> int: ...

        @send_task("tasks.run", **options)
        async def arun(self, number: int) -> int: ...

    return Client


def take(sent: Callable[..., list[Any]]) -> Any:
    (message,) = [message for queue in ("celery", "slow", TOPICS) for message in sent(queue)]
    return message


@every_option
def test_an_option_of_the_stub_travels(container, sent, options, seen, expected):
    Client = client_with(**options)
    container(Client).get(Client).run(1)
    assert seen(take(sent)) == expected


@every_option
def test_an_option_of_with_options_travels(container, sent, options, seen, expected):
    Client = client_with()
    with_options(container(Client).get(Client), **options).run(1)
    assert seen(take(sent)) == expected


@every_option
async def test_an_option_of_an_async_stub_travels(container, sent, options, seen, expected):
    Client = client_with()
    await with_options(container(Client).get(Client), **options).arun(1)
    assert seen(take(sent)) == expected


OTHERS = {
    "priority": (1, 9, lambda m: m.properties["priority"]),
    "shadow": ("one", "other", lambda m: m.headers["shadow"]),
    "headers": ({"a": 1}, {"a": 2}, lambda m: {"a": m.headers["a"]}),
    "queue": ("celery", "slow", lambda m: m.delivery_info["routing_key"]),
    "expires": (None, SOON, lambda m: m.headers["expires"] and SOON),
}


@pytest.mark.parametrize("name", OTHERS)
def test_with_options_wins_over_the_stub(container, sent, name):
    one, other, seen = OTHERS[name]
    Client = client_with(**{name: one})
    client = container(Client).get(Client)
    with_options(client, **{name: other}).run(1)
    assert seen(take(sent)) == other
    client.run(1)
    assert seen(take(sent)) == one


def test_none_takes_back_an_option_of_the_stub(container, sent):
    Client = client_with(countdown=60, priority=3)
    with_options(container(Client).get(Client), countdown=None).run(1)
    message = take(sent)
    assert message.headers["eta"] is None
    assert message.properties["priority"] == 3


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_retry_policy_reaches_the_producer(container, asynchronous):
    Client = client_with(retry_policy={"max_retries": 7})
    client = container(Client).get(Client)
    policies: list[dict[str, Any]] = []

    def before(retry_policy: dict[str, Any], **_: Any) -> None:
        policies.append(retry_policy)

    signals.before_task_publish.connect(before, sender="tasks.run")
    try:
        await client.arun(1) if asynchronous else client.run(1)
    finally:
        signals.before_task_publish.disconnect(before, sender="tasks.run")
    (policy,) = policies
    assert (policy["max_retries"], policy["interval_start"]) == (7, 0)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_result_that_is_ignored_is_none_at_once(container, asynchronous):
    Client = client_with(ignore_result=True)
    client = container(Client).get(Client)
    result = await client.arun(1) if asynchronous else client.run(1)
    assert result.get(timeout=60) is None
    assert await result is None
    assert [step async for step in result.progress()] == []


async def test_the_time_to_send_is_no_option_of_the_message(container, sent):
    @celery
    class Client(CeleryClient):
        @send_task("tasks.run")
        def run(self, number: int) -> int: ...

        @send_task("tasks.run", publish_timeout=5)
        async def arun(self, number: int) -> int: ...

    client = container(Client).get(Client)
    await client.arun(1)
    await with_options(client, publish_timeout=3).arun(1)
    with_options(client, publish_timeout=3).run(1)
    assert not any("publish_timeout" in {**message.headers, **message.properties} for message in sent())


async def test_a_producer_of_the_callers_own_is_used(container, app, sent):
    Client = client_with()
    client = container(Client).get(Client)
    with app.connection_for_write() as connection:
        await with_options(client, connection=connection).arun(1)
        await with_options(client, producer=app.amqp.Producer(connection, auto_declare=False)).arun(2)
    assert [message.args for message in sent()] == [[1], [2]]


@pytest.mark.parametrize(
    ("option", "meant"),
    [("count_down", "countdown"), ("que", "queue"), ("prioritty", "priority"), ("publish_timeot", "publish_timeout")],
)
def test_an_unknown_option_is_refused_with_what_was_probably_meant(container, option, meant):
    Client = client_with()
    with pytest.raises(UnknownOptionError) as error:
        with_options(container(Client).get(Client), **{option: 1})
    assert error.value.suggestion == meant
    with pytest.raises(UnknownOptionError, match=f"Did you mean '{meant}'"):
        client_with(**{option: 1})


@pytest.mark.parametrize("timeout", ["3", -1])
def test_a_time_to_send_that_is_none_is_refused_where_it_is_written(container, timeout):
    with pytest.raises(OptionValueError, match=r"@send_task\('tasks.run'\) got the option 'publish_timeout'"):
        client_with(publish_timeout=timeout)
    Client = client_with()
    with pytest.raises(OptionValueError, match=r"with_options\(\) got the option 'publish_timeout'"):
        with_options(container(Client).get(Client), publish_timeout=timeout)


def test_what_an_option_breaks_says_whose_it_was(container):
    Client = client_with()
    client = with_options(container(Client).get(Client), countdown="soon", priority=3)
    with pytest.raises(TypeError) as caught:
        client.run(1)
    (note,) = caught.value.__notes__
    assert note.endswith("Client.run, which sends 'tasks.run' with the options countdown, priority, raised this.")


# Stamps

TRACED = {"stamped_headers": ["trace"]}
STAMPS: dict[str, tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]] = {
    "named by the stub": (TRACED, [{"trace": "t-1"}], {"trace": "t-1"}),
    "named by an earlier one": ({}, [{**TRACED, "trace": "t-1"}, {"trace": "t-2"}], {"trace": "t-2"}),
    "named twice": ({**TRACED, "trace": "t-1"}, [{**TRACED, "trace": "t-2"}], {"trace": "t-2"}),
    "named no longer": (
        {**TRACED, "trace": "t-1"},
        [{"stamped_headers": ["user"], "user": "ada"}, {"priority": 1}],
        {"user": "ada"},
    ),
    "taken back": ({**TRACED, "trace": "t-1"}, [{"stamped_headers": None}], {}),
}


@pytest.mark.parametrize(("stub", "further", "stamps"), STAMPS.values(), ids=STAMPS)
def test_stamps_are_merged(container, sent, stub, further, stamps):
    Client = client_with(**stub)
    client = container(Client).get(Client)
    for options in further:
        client = with_options(client, **options)
    client.run(1)
    message = take(sent)
    assert (message.headers["stamps"], message.headers["stamped_headers"] or []) == (stamps, list(stamps))
    assert not {"trace", "user"} & (message.headers.keys() | message.properties.keys())


def test_a_stamp_goes_only_with_the_stubs_that_name_it(container, sent):
    @celery
    class Client(CeleryClient):
        @send_task("tasks.run", **TRACED)
        def traced(self) -> None: ...

        @send_task("tasks.run")
        def run(self) -> None: ...

    client = with_options(container(Client).get(Client), trace="t-1")
    client.traced()
    client.run()
    assert [message.headers["stamps"] for message in sent()] == [{"trace": "t-1"}, {}]


def test_a_stamp_that_nothing_names_is_refused(container):
    Client = client_with()
    client = with_options(container(Client).get(Client), **TRACED)
    with pytest.raises(UnknownOptionError):
        with_options(client, trase="t-1")


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_stamp_that_is_named_must_be_given(container, sent, asynchronous):
    Client = client_with(**TRACED)
    client = container(Client).get(Client)
    with pytest.raises(MissingStampError) as error:
        await client.arun(1) if asynchronous else client.run(1)
    assert str(error.value).endswith(
        "which sends 'tasks.run': its stamped_headers name 'trace', which has no value. "
        "Give it one with with_options(client, trace=...). Nothing was sent."
    )
    assert sent() == []


def test_the_options_of_a_client_do_not_change_while_it_is_used(container, sent):
    headers = {"tenant": "acme"}
    Client = client_with(headers=headers, link=[signature("tasks.after")])
    client = container(Client).get(Client)
    for _ in range(2):
        client.run(1)
        message = take(sent)
        assert len(message.embed["callbacks"]) == 1
    assert headers == {"tenant": "acme"}


def test_a_result_can_be_pickled(container, app):
    app.set_current()
    Client = client_with()
    result = container(Client).get(Client).run(1)
    again = pickle.loads(pickle.dumps(result))
    assert (type(again), again.id) == (type(result), result.id)


def test_what_changes_the_options_of_one_message_changes_no_other(container, app, sent):
    """Sentry takes an entry of its own out of `headers`, for instance."""

    @celery
    class Changed(CeleryClient):
        @send_task("tasks.run", headers={"own": 1, "nested": {"own": 1}})
        def run(self) -> None: ...

    client = container(Changed).get(Changed)
    send, seen = app.send_task, []

    def take(*args: Any, headers: Any, **options: Any) -> Any:
        seen.append((headers.pop("own", None), headers["nested"].pop("own", None)))
        return send(*args, headers=headers, **options)

    app.send_task = take
    given = {"own": 2, "nested": {"own": 2}}
    for changing in (client, client, with_options(client, headers=given), with_options(client, headers=given)):
        changing.run()
    assert seen == [(1, 1), (1, 1), (2, 2), (2, 2)]
