"""A method call becomes a message: its arguments, its options, and what is refused before anything is sent."""

import asyncio
from typing import Any

import pytest
from celery import Celery
from celery.result import AsyncResult
from pico_ioc import MethodCtx, intercepted_by

from pico_celery_client import CeleryClient, CeleryClientInterceptor, TaskResult, celery, with_options
from pico_celery_core import send_task
from pico_celery_core.backends import BACKEND_HEADER
from pico_celery_core.errors import CallError, UnknownOptionError


@celery
class UserClient(CeleryClient):
    @send_task("users.create", priority=3, shadow="create a user")
    def create(self, name: str, email: str = "none", *, admin: bool = False) -> dict[str, str]: ...

    @send_task("users.create", countdown=60)
    async def acreate(self, name: str, email: str = "none") -> dict[str, str]: ...

    @send_task("users.tag")
    def tag(self, name: str, *tags: str, **notes: str) -> None: ...

    @send_task("users.locate")
    def locate(self, name: str, /, depth: int = 1) -> None: ...

    @send_task("users.purge", queue="slow", ignore_result=True)
    def purge(self) -> None: ...

    def greeting(self, name: str) -> str:
        return f"Hello {name}"


@pytest.fixture
def client(container) -> UserClient:
    return container(UserClient).get(UserClient)


def test_arguments_travel_as_they_were_given_and_defaults_with_them(client, sent):
    client.create("alice", admin=True)
    (message,) = sent()
    assert (message.task, message.args, message.kwargs) == (
        "users.create",
        ["alice"],
        {"admin": True, "email": "none"},
    )


def test_variadic_arguments_travel(client, sent):
    client.tag("alice", "a", "b", colour="red")
    (message,) = sent()
    assert (message.args, message.kwargs) == (["alice", "a", "b"], {"colour": "red"})


def test_positional_only_arguments_travel(client, sent):
    client.locate("alice")
    (message,) = sent()
    assert (message.args, message.kwargs) == (["alice"], {"depth": 1})


def test_the_stubs_options_travel(client, sent):
    client.create("alice")
    (message,) = sent()
    assert message.properties["priority"] == 3
    assert message.headers["shadow"] == "create a user"


def test_the_queue_is_that_of_the_stub(client, sent):
    result = client.purge()
    assert sent() == []
    (message,) = sent("slow")
    assert message.id == result.id
    assert message.headers["ignore_result"] is True


def test_the_result_is_celerys_and_knows_its_app(client, app):
    result = client.create("alice")
    assert isinstance(result, AsyncResult)
    assert isinstance(result, TaskResult)
    assert result.app is app
    assert result.state == "PENDING"


async def test_an_async_stub_sends_when_it_is_awaited(client, sent):
    unsent = client.acreate("alice")
    assert sent() == []
    result = await unsent
    (message,) = sent()
    assert isinstance(result, TaskResult)
    assert (message.id, message.kwargs) == (result.id, {"email": "none"})
    assert message.headers["eta"] is not None


async def test_a_sync_stub_sends_at_once_in_async_code_too(client, sent):
    result = client.create("alice")
    assert [message.id for message in sent()] == [result.id]


def test_a_plain_method_is_left_alone(client, sent):
    assert client.greeting("alice") == "Hello alice"
    assert sent() == []


@pytest.mark.parametrize(
    ("args", "kwargs", "problem"),
    [
        ((), {}, "missing a required argument: 'name'"),
        (("alice", "a@x", True), {}, "too many positional arguments"),
        (("alice",), {"name": "bob"}, "multiple values for argument 'name'"),
        (("alice",), {"mail": "a@x"}, "got an unexpected keyword argument 'mail'"),
    ],
)
def test_a_call_that_does_not_fit_is_refused_before_anything_is_sent(client, sent, args, kwargs, problem):
    with pytest.raises(TypeError) as error:
        client.create(*args, **kwargs)
    assert isinstance(error.value, CallError)
    assert str(error.value) == (
        f"UserClient.create, which sends 'users.create': {problem}. "
        "Call it as create(name: str, email: str = 'none', *, admin: bool = False) -> dict[str, str]. "
        "Nothing was sent."
    )
    assert sent() == []


async def test_an_async_call_that_does_not_fit_is_refused_as_well(client, sent):
    with pytest.raises(CallError, match=r"UserClient\.acreate, which sends 'users\.create'"):
        await client.acreate()
    assert sent() == []


# with_options


def test_with_options_wins_over_the_decorator(client, sent):
    with_options(client, priority=9, countdown=30).create("alice")
    (message,) = sent()
    assert message.properties["priority"] == 9
    assert message.headers["eta"] is not None
    assert message.headers["shadow"] == "create a user"


def test_the_last_with_options_wins_and_the_others_stay(client, sent):
    with_options(with_options(client, priority=9, shadow="first"), priority=1).create("alice")
    (message,) = sent()
    assert (message.properties["priority"], message.headers["shadow"]) == (1, "first")


def test_with_options_leaves_the_client_as_it_is(client, sent):
    other = with_options(client, priority=9)
    client.create("alice")
    (message,) = sent()
    assert message.properties["priority"] == 3
    assert other is not client


def test_with_options_keeps_the_type(client):
    other = with_options(client, priority=9)
    assert type(other) is type(client)
    assert other.greeting("alice") == "Hello alice"


async def test_with_options_holds_for_async_stubs(client, sent):
    await with_options(client, queue="slow").acreate("alice")
    assert len(sent("slow")) == 1


def test_with_options_refuses_what_celery_does_not_know(client):
    with pytest.raises(UnknownOptionError) as error:
        with_options(client, count_down=30)
    assert str(error.value) == (
        "with_options() got the option 'count_down', which Celery does not know. Did you mean 'countdown'?"
    )


def test_headers_and_stamps_travel(client, sent):
    stamped = with_options(client, headers={"tenant": "acme"}, stamped_headers=["trace"], trace="t-1")
    stamped.create("alice")
    (message,) = sent()
    assert message.headers["tenant"] == "acme"
    assert message.headers["stamps"] == {"trace": "t-1"}


# A Celery of the application's own


class FakeCelery(Celery):
    """Notes what it is asked to send."""

    def __init__(self) -> None:
        super().__init__(set_as_current=False)
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def send_task(self, name: str, **options: Any) -> Any:
        self.calls.append((name, options))
        assert options.pop("producer").release  # of the client's own pool
        return options.pop("result_cls")("the-id")


def test_celery_is_asked_once_with_name_arguments_and_options(container):
    fake = FakeCelery()
    client = container(UserClient, overrides={Celery: fake}).get(UserClient)
    result = client.create("alice")
    assert fake.calls == [
        (
            "users.create",
            {
                "args": ("alice",),
                "kwargs": {"email": "none", "admin": False},
                "priority": 3,
                "shadow": "create a user",
            },
        )
    ]
    assert (result.id, result.app) == ("the-id", fake)


def test_what_celery_raises_reaches_the_caller(container):
    class BrokenCelery(FakeCelery):
        def send_task(self, name: str, **options: Any) -> Any:
            raise self.OperationalError("broker is down")

        OperationalError = ConnectionError

    client = container(UserClient, overrides={Celery: BrokenCelery()}).get(UserClient)
    with pytest.raises(ConnectionError, match="broker is down"):
        client.create("alice")


def test_the_interceptor_passes_on_a_method_that_is_no_stub(app):
    interceptor = CeleryClientInterceptor(app)
    context = MethodCtx(
        instance=None, cls=UserClient, method=None, name="greeting", args=("bob",), kwargs={}, container=None
    )
    assert interceptor.invoke(context, lambda ctx: (ctx.name, ctx.args)) == ("greeting", ("bob",))


async def test_the_interceptor_sends_where_pico_ioc_calls_it(container, sent):
    @celery
    class Intercepted(CeleryClient):
        @intercepted_by(CeleryClientInterceptor)
        @send_task("users.create")
        async def create(self, name: str) -> None: ...

    client = with_options(container(Intercepted).get(Intercepted), priority=7)
    await client.create("alice")
    assert [(message.args, message.properties["priority"]) for message in sent()] == [(["alice"], 7)]


# Where the result is looked for


def test_a_message_says_where_its_result_is_looked_for(client, sent):
    client.create("alice")
    with_options(client, headers={"tenant": "acme"}).tag("alice")
    messages = sent()
    assert [message.headers[BACKEND_HEADER] for message in messages] == ["cache+memory://"] * 2
    assert messages[1].headers["tenant"] == "acme"


def test_a_message_without_a_result_says_nothing(client, sent):
    client.purge()
    (message,) = sent("slow")
    assert BACKEND_HEADER not in message.headers


# A plain stub on a running event loop


def warnings_in(caplog) -> list[str]:
    return [message for message in caplog.messages if "running event loop" in message]


async def test_a_plain_stub_that_is_called_on_a_running_loop_draws_one_warning(client, caplog):
    for _ in range(3):
        client.create("alice")
        with_options(client, priority=1).create("alice")
    client.tag("alice")
    first, second = warnings_in(caplog)
    assert first.startswith("UserClient.create, which sends 'users.create', is a plain method")
    assert "async def" in first
    assert second.startswith("UserClient.tag")


async def test_an_async_stub_and_a_plain_one_in_a_thread_draw_none(client, caplog):
    await client.acreate("alice")
    await asyncio.to_thread(client.create, "alice")
    assert warnings_in(caplog) == []


def test_a_plain_stub_without_a_loop_draws_none(client, caplog):
    client.create("alice")
    assert warnings_in(caplog) == []
