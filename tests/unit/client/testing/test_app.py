"""RecordingCelery: what was sent, what becomes of it, and how mistakes of a test are told."""

import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Annotated

import pytest
from celery import Celery
from celery.exceptions import TaskRevokedError
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import AsyncResult
from kombu.exceptions import EncodeError
from pico_ioc import component, init

from pico_celery_client import CeleryClient, TaskResult, as_completed, celery, gather_results, with_options
from pico_celery_client.testing import Call, NoOutcomeError, RecordingCelery
from pico_celery_core import send_task
from pico_celery_core.errors import CallError, ResultTimeoutError
from pico_celery_core.sensitive import Sensitive


@celery
class OrderClient(CeleryClient):
    @send_task("orders.confirm", queue="mail")
    def confirm(self, order: int, email: str = "none", *, items: tuple[int, ...] = ()) -> str: ...

    @send_task("orders.confirm")
    async def aconfirm(self, order: int, email: str = "none") -> str: ...

    @send_task("orders.cancel", ignore_result=True)
    def cancel(self, order: int) -> None: ...

    @send_task("orders.pay")
    def pay(self, order: int, card: Annotated[str, Sensitive]) -> None: ...

    @send_task("orders.tag")
    def tag(self, order: int, *tags: object, **notes: object) -> None: ...

    def plain(self) -> None:
        """Not a stub."""


@component
class Shop:
    def __init__(self, orders: OrderClient) -> None:
        self.orders = orders

    def sell(self, order: int) -> str:
        value: str = self.orders.confirm(order, email="ada@shop.example").get(timeout=60)
        return value


class OutOfStockError(Exception):
    """An error of a handler."""


class UnfaithfulError(Exception):
    """An error that says something of what cannot be sent."""

    def __str__(self) -> str:
        return f"about {type(self.args[0]).__name__}"


@pytest.fixture
def shop(recording_celery: RecordingCelery) -> Shop:
    application = ModuleType("application")
    vars(application).update(OrderClient=OrderClient, Shop=Shop)
    found: Shop = init(modules=["pico_celery_client", application], overrides={Celery: recording_celery}).get(Shop)
    return found


@pytest.fixture
def orders(shop: Shop) -> OrderClient:
    return shop.orders


# Calls


def test_a_call_is_remembered_with_its_arguments_and_options(recording_celery, orders):
    result = with_options(orders, countdown=30).confirm(7, email="a@x")
    (call,) = recording_celery.calls
    assert call == Call(
        "orders.confirm", (7,), {"email": "a@x", "items": []}, {"queue": "mail", "countdown": 30}, id="whatever"
    )
    assert call.id == result.id
    assert str(call) == "orders.confirm(7, email='a@x', items=[])"


async def test_an_async_stubs_options_are_those_that_were_given(recording_celery, orders):
    await orders.aconfirm(7)
    await with_options(orders, publish_timeout=3, retry_policy={"max_retries": 1}).aconfirm(8)
    assert [call.options for call in recording_celery.calls] == [{}, {"retry_policy": {"max_retries": 1}}]


def test_calls_are_in_order_and_can_be_asked_for_by_task(recording_celery, orders):
    orders.cancel(1)
    orders.confirm(2)
    orders.cancel(3)
    assert [call.task for call in recording_celery.calls] == ["orders.cancel", "orders.confirm", "orders.cancel"]
    assert [call.args for call in recording_celery.calls_to("orders.cancel")] == [(1,), (3,)]


async def test_calls_of_a_stub_have_its_parameters_names(recording_celery, orders):
    orders.confirm(7, "a@x", items=(1, 2))
    await orders.aconfirm(order=8)
    assert [call.arguments for call in recording_celery.calls_of(orders.confirm)] == [
        {"order": 7, "email": "a@x", "items": [1, 2]},
        {"order": 8, "email": "none", "items": ()},
    ]
    orders.tag(9, "new", colour="red")
    (call,) = recording_celery.calls_of(OrderClient.tag)
    assert call.arguments == {"order": 9, "tags": ("new",), "notes": {"colour": "red"}}


def test_arguments_are_what_the_handler_gets(recording_celery, orders):
    items = [1, 2]
    when = datetime(2026, 1, 1, tzinfo=UTC)
    orders.tag(7, items, {3: when})
    items.append(3)
    (call,) = recording_celery.calls
    assert call.args == (7, [1, 2], {"3": when})


def test_what_could_not_be_sent_fails_and_is_no_call(recording_celery, orders):
    with pytest.raises(TypeError, match="'email'"):
        orders.confirm(7, email=object())
    with pytest.raises(CallError):
        orders.confirm()
    with pytest.raises(EncodeError):
        recording_celery.send_task("orders.confirm", [object()])
    assert recording_celery.calls == []


def test_the_serializer_is_the_one_that_is_set(orders):
    recording = RecordingCelery(task_serializer="pickle")
    recording.send_task("orders.confirm", [(1, 2)])
    assert recording.calls[0].args == ((1, 2),)


def test_an_application_may_also_send_without_a_client(recording_celery):
    recording_celery.returns("reports.build", "done")
    result = recording_celery.send_task("reports.build", kwargs={"month": "May"}, task_id="report-1")
    assert (result.get(), result.id) == ("done", "report-1")
    assert recording_celery.calls == [Call("reports.build", (), {"month": "May"})]


def test_nobody_is_asked_for_a_connection(recording_celery, orders):
    recording_celery.conf.broker_url = "amqp://nowhere.invalid"
    with_options(orders, countdown=5, expires=9).confirm(7).revoke()
    assert recording_celery.calls[0].options["expires"] == 9


def test_it_does_not_become_the_current_app(recording_celery):
    assert Celery("another").oid != recording_celery.oid
    from celery import current_app

    assert current_app.main != "recording"


# Checks


def test_a_sent_call_is_found_however_its_arguments_were_passed(recording_celery, orders):
    orders.confirm(7, items=(1, 2))
    first = recording_celery.assert_sent(orders.confirm, order=7, email="none", items=(1, 2))
    assert first.options == {"queue": "mail"}
    orders.confirm(7, items=(1, 2))
    assert recording_celery.assert_sent(orders.confirm, 7, items=(1, 2)).id == recording_celery.calls[1].id


def test_a_failed_check_tells_what_the_stub_was_called_with(recording_celery, orders):
    orders.confirm(7, email="a@x")
    with pytest.raises(AssertionError) as error:
        recording_celery.assert_sent(orders.confirm, 8)
    assert str(error.value) == (
        "OrderClient.confirm was not called with (order=8, email='none', items=[]).\n"
        "It was called with:\n"
        "  (order=7, email='a@x', items=[])"
    )


def test_a_failed_check_tells_what_else_was_sent(recording_celery, orders):
    with pytest.raises(AssertionError, match=r"Nothing was sent\."):
        recording_celery.assert_sent(orders.confirm, 8)
    orders.cancel(7)
    with pytest.raises(AssertionError) as error:
        recording_celery.assert_sent(orders.confirm, 8)
    assert str(error.value).endswith("'orders.confirm' was not sent at all. Sent was:\n  orders.cancel(7)")


def test_a_check_itself_has_to_fit_the_stub(recording_celery, orders):
    with pytest.raises(CallError, match="missing a required argument: 'order'"):
        recording_celery.assert_sent(orders.confirm)


def test_only_stubs_can_be_asked_for(recording_celery, orders):
    with pytest.raises(TypeError, match=r"OrderClient\.plain: it is not a @send_task stub"):
        recording_celery.calls_of(orders.plain)


def test_how_arguments_are_shown_is_no_option(recording_celery, orders):
    orders.pay(7, "1234")
    call = recording_celery.assert_sent(orders.pay, 7, card="1234")
    assert call.options == {}


# Results


def test_a_result_is_what_was_set_up(recording_celery, shop):
    recording_celery.returns(shop.orders.confirm, "confirmed")
    assert shop.sell(7) == "confirmed"


async def test_a_result_is_celerys_and_can_be_awaited(recording_celery, orders):
    recording_celery.returns("orders.confirm", "confirmed")
    result = await orders.aconfirm(7)
    assert isinstance(result, AsyncResult)
    assert isinstance(result, TaskResult)
    assert (result.state, result.ready(), result.successful()) == ("SUCCESS", True, True)
    assert await result == await result.wait(timeout=60) == result.get(timeout=5) == result.result == "confirmed"
    assert [step async for step in result.progress()] == []
    assert AsyncResult(result.id, app=recording_celery).get() == "confirmed"


def test_values_come_one_a_call_and_the_last_one_stays(recording_celery, orders):
    recording_celery.returns(orders.confirm, "first", "second")
    recording_celery.raises(orders.confirm, OutOfStockError(7))
    recording_celery.returns("orders.confirm", "last")
    results = [orders.confirm(7) for _ in range(5)]
    first, second, failed, *others = (result.get(propagate=False) for result in results)
    assert (first, second, others) == ("first", "second", ["last", "last"])
    assert isinstance(failed, OutOfStockError)


async def test_an_error_is_raised_as_from_a_worker(recording_celery, orders):
    error = OutOfStockError("hammer", 3)
    recording_celery.raises("orders.confirm", error)
    result = orders.confirm(7)
    with pytest.raises(OutOfStockError) as sync_error:
        result.get()
    with pytest.raises(OutOfStockError) as async_error:
        await orders.confirm(7)
    assert sync_error.value.args == async_error.value.args == ("hammer", 3)
    assert async_error.value is not error
    assert result.failed()


def test_a_value_is_what_a_result_backend_makes_of_it(recording_celery, orders):
    recording_celery.returns("orders.tag", {"items": (1, 2)})
    assert orders.tag(7).get() == {"items": [1, 2]}


def test_a_value_that_no_worker_could_store_is_refused(recording_celery):
    with pytest.raises(EncodeError):
        recording_celery.returns("orders.confirm", object())


def test_an_error_that_would_arrive_as_another_is_refused(recording_celery):
    class LocalError(Exception):
        pass

    with pytest.raises(TypeError, match="would arrive as LocalError"):
        recording_celery.raises("orders.confirm", LocalError("x"))
    with pytest.raises(TypeError, match="say the same without the rest"):
        recording_celery.raises("orders.confirm", UnfaithfulError(object()))


async def test_a_delayed_result_comes_later(recording_celery, orders):
    recording_celery.returns(orders.confirm, "late", delay=0.05)
    started = time.monotonic()
    waited_for, asked_for = orders.confirm(7), orders.confirm(8)
    assert (waited_for.state, waited_for.ready()) == ("PENDING", False)
    assert await waited_for == "late"
    assert asked_for.get() == "late"
    assert time.monotonic() - started >= 0.05


async def test_waiting_for_a_delayed_result_has_an_end(recording_celery, orders):
    recording_celery.returns(orders.confirm, "late", delay=60)
    result = orders.confirm(7)
    with pytest.raises(CeleryTimeoutError):
        result.get(timeout=0.01)
    with pytest.raises(ResultTimeoutError) as error:
        await result.wait(timeout=0.01)
    assert (error.value.task_id, error.value.timeout) == (result.id, 0.01)


async def test_a_task_can_be_cancelled_until_its_result_is_there(recording_celery, orders):
    none = orders.confirm(8)
    assert await none.cancel()
    recording_celery.returns(orders.confirm, "at once")
    recording_celery.returns(orders.confirm, "late", delay=600)
    ended, late = orders.confirm(6), orders.confirm(7)
    assert [await ended.cancel(), await late.cancel(), await late.cancel()] == [False, True, True]
    assert await ended == "at once"
    for cancelled in (late, none):
        with pytest.raises(TaskRevokedError, match="cancelled"):
            await cancelled


async def test_several_results_can_be_gathered(recording_celery, orders):
    recording_celery.returns(orders.confirm, "a", "b")
    assert await gather_results(orders.confirm(1), orders.confirm(2), timeout=5) == ["a", "b"]
    assert [await result async for result in as_completed([orders.confirm(3)])] == ["b"]


async def test_an_ignored_result_is_none_at_once(recording_celery, orders):
    result = orders.cancel(7)
    assert await result is None
    assert result.get() is None
    assert [step async for step in result.progress()] == []


# Mistakes of the test


async def test_a_result_that_was_not_set_up_is_not_waited_for(recording_celery, orders):
    result = orders.confirm(7)
    assert result.state == "PENDING"
    for wait in (result.wait(), result.wait(timeout=60)):
        with pytest.raises(NoOutcomeError) as error:
            await wait
    with pytest.raises(NoOutcomeError):
        result.get(timeout=60)
    with pytest.raises(NoOutcomeError):
        _ = [step async for step in result.progress()]
    assert str(error.value) == (
        "No result is set up for 'orders.confirm'. "
        "Call returns('orders.confirm', value) or raises('orders.confirm', error) before it is sent."
    )


def test_a_result_of_an_unknown_id_is_not_waited_for(recording_celery):
    with pytest.raises(NoOutcomeError, match="a task with the id forgotten"):
        AsyncResult("forgotten", app=recording_celery).get()


def test_a_result_set_up_under_a_misspelt_name_is_pointed_at_by_who_misses_it():
    recording = RecordingCelery()
    recording.returns("orders.confrim", "confirmed")
    with pytest.raises(NoOutcomeError, match=r"There is one for 'orders\.confrim': is that a misspelling\?"):
        recording.send_task("orders.confirm").get()


@pytest.mark.parametrize("sent", ["orders.confirm", "reports.build"], ids=["by a client", "by name"])
def test_a_misspelt_name_is_found_in_the_end(sent):
    recording = RecordingCelery()
    recording.send_task("reports.build")
    recording.returns(sent + "s", "done")
    with pytest.raises(AssertionError) as error:
        recording.verify()
    assert str(error.value) == f"A result was set up for '{sent}s', which nothing sends. Did you mean '{sent}'?"


def test_a_name_that_just_was_not_sent_is_none_of_a_mistake():
    recording = RecordingCelery()
    recording.returns("orders.confirm", "done")
    recording.returns("something.else", "done")
    recording.verify()


def test_doubles_know_nothing_of_each_other(orders, recording_celery):
    another = RecordingCelery()
    another.returns("orders.confirm", "another's")
    result = orders.confirm(7)
    assert another.calls == []
    with pytest.raises(NoOutcomeError):
        result.get()


# pytest


def run_pytest(folder: Path, code: str, *options: str) -> str:
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    (folder / "test_it.py").write_text(code)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder)
    return done.stdout + done.stderr


USERS_TESTS = """
from celery import Celery
from pico_celery import CeleryClient, celery, send_task
from pico_ioc import init

@celery
class OrderClient(CeleryClient):
    @send_task("orders.confirm")
    def confirm(self, order: int) -> str: ...

def orders(recording_celery):
    return init(modules=["pico_celery_client", __name__], overrides={Celery: recording_celery}).get(OrderClient)

def test_one(recording_celery):
    recording_celery.returns("orders.confirm", "done")
    assert orders(recording_celery).confirm(7).get() == "done"

def test_each_has_its_own(recording_celery):
    assert recording_celery.calls == []

def test_misspelt(recording_celery):
    recording_celery.returns("orders.confrim", "done")
"""


def test_pytest_finds_the_fixture_by_itself(tmp_path):
    told = run_pytest(tmp_path, USERS_TESTS)
    assert "3 passed, 1 error" in told
    assert "A result was set up for 'orders.confrim', which nothing sends. Did you mean 'orders.confirm'?" in told


def test_who_does_not_use_the_fixtures_does_not_import_celery_for_them(tmp_path):
    code = "import sys\ndef test_it(): assert not {'celery', 'gevent', 'pico_celery_client'} & {*sys.modules}\n"
    assert "1 passed" in run_pytest(tmp_path, code, "-p", "no:hypothesispytest")


def test_containers_are_made_without_pytest():
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "from pico_ioc import init\n"
        "init(modules=['pico_celery_core', 'pico_celery_client', 'pico_celery_worker'])\n"
        "assert 'pico_celery_client.testing' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
