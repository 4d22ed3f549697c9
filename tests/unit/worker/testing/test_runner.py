"""TaskRunner: what runs within a test is what a worker would do, and nothing of it outlives the test."""

import asyncio
import contextvars
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain, chord, current_app, group
from celery.exceptions import NotRegistered, SoftTimeLimitExceeded, TaskRevokedError, TimeLimitExceeded, WorkerLostError
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import AsyncResult
from celery.worker import state
from pico_ioc import PicoContainer, cleanup, component, configure

from pico_celery_client import CeleryClient, TaskResult, celery, gather_results, with_options
from pico_celery_core import send_task, task
from pico_celery_core.errors import ContainerClosedError, HandlerArgumentsError, HandlerExitError
from pico_celery_worker import PicoTaskRegistrar, TaskContext, loop
from pico_celery_worker.testing import TaskRunner, TasksStillRunError
from tests.unit.worker.applications import application

REQUEST: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")


class OutOfStockError(Exception):
    """An error of a handler."""


@celery
class OrderClient(CeleryClient):
    @send_task("orders.confirm", queue="mail", priority=9)
    def confirm(self, order: int, *, tags: Any = ()) -> dict[str, Any]: ...

    @send_task("orders.confirm")
    async def aconfirm(self, order: int) -> dict[str, Any]: ...

    @send_task("orders.refuse")
    def refuse(self, error: str) -> None: ...

    @send_task("orders.watch")
    def watch(self, seconds: float) -> str: ...

    @send_task("orders.archive")
    def archive(self, order: int) -> None: ...

    @send_task("orders.split")
    def split(self, parts: int, way: str) -> int: ...

    @send_task("orders.deliver")
    def deliver(self, order: int) -> int: ...

    @send_task("orders.forget")
    def forget(self) -> None: ...


@component
class Journal:
    """Notes what happens; made before the first task, on the loop of the tasks."""

    def __init__(self) -> None:
        self.entries: list[Any] = []
        self.loop: asyncio.AbstractEventLoop | None = None

    async def __aclose__(self) -> None:
        self.entries.append("journal closed" if asyncio.get_running_loop() is self.loop else "closed elsewhere")


@component(lazy=True)
class Database:
    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    @configure
    async def connect(self) -> None:
        self.journal.loop = asyncio.get_running_loop()
        self.journal.entries.append("connected")


@component(scope="task")
class UnitOfWork:
    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    @cleanup
    async def end(self) -> None:
        self.journal.entries.append("unit ended")


@component(scope="prototype")
class OrderTasks:
    def __init__(
        self, journal: Journal, database: Database, unit: UnitOfWork, context: TaskContext, orders: OrderClient
    ) -> None:
        self.journal = journal
        self.unit = unit
        self.context = context
        self.orders = orders

    @task("orders.confirm")
    async def confirm(self, order: int, *, tags: Any = ()) -> dict[str, Any]:
        return {"order": order, "tags": tags, "id": self.context.id, "request": REQUEST.get()}

    @task("orders.refuse")
    async def refuse(self, error: str) -> Any:
        match error:
            case "raise":
                raise OutOfStockError("hammer", 3)
            case "encode":
                return object()
            case "exit":
                sys.exit(3)
        return None

    @task("orders.watch", soft_time_limit=60)
    async def watch(self, seconds: float) -> str:
        try:
            await asyncio.sleep(seconds)
        except SoftTimeLimitExceeded:
            return "too long"
        return "seen"

    @task("orders.archive", ignore_result=True)
    async def archive(self, order: int) -> None:
        await asyncio.sleep(0.01)
        self.journal.entries.append(f"archived {order}")

    @task("orders.split")
    async def split(self, parts: int, way: str) -> int:
        match way:
            case "await":
                confirmed = [await self.orders.aconfirm(part) for part in range(parts)]
                return sum(value["order"] for value in await gather_results(*confirmed))
            case "block":
                return len(self.orders.confirm(parts).get())
            case _:
                for part in range(parts):
                    self.orders.archive(part)
                return parts

    @task("orders.deliver", max_retries=3, default_retry_delay=3600)
    async def deliver(self, order: int) -> int:
        self.journal.entries.append(f"attempt {self.context.retries}")
        if self.context.retries < 2:
            self.context.retry(exc=OutOfStockError(order))
        await self.context.progress(1, 2)
        return self.context.retries

    @task("orders.persist", autoretry_for=(OutOfStockError,), retry_backoff=3600)
    async def persist(self) -> int:
        if not self.context.retries:
            raise OutOfStockError
        return self.context.retries

    @task("orders.add")
    async def add(self, one: int, other: int) -> int:
        return one + other

    @task("orders.sum")
    async def sum(self, numbers: list[int]) -> int:
        return sum(numbers)

    @task("orders.note")
    async def note(self, what: Any) -> None:
        self.journal.entries.append(what)


COMPONENTS = (OrderClient, Journal, Database, UnitOfWork, OrderTasks)


def make(*, settings: dict[str, Any] | None = None, components: tuple[type, ...] = COMPONENTS) -> PicoContainer:
    """Make the application, whose broker and result backend do not exist."""
    servers = {"broker_url": "amqp://nowhere.invalid", "backend_url": "redis://nowhere.invalid"}
    return application(*components, settings={**servers, **(settings or {})})


@pytest.fixture
def container() -> PicoContainer:
    return make()


@pytest.fixture
def orders(container: PicoContainer) -> OrderClient:
    found: OrderClient = container.get(OrderClient)
    return found


@pytest.fixture
def journal(container: PicoContainer) -> list[Any]:
    entries: list[Any] = container.get(Journal).entries
    return entries


@pytest.fixture
def runner(task_runner: Callable[..., TaskRunner], container: PicoContainer) -> TaskRunner:
    return task_runner(container)


# What is run


def test_a_call_runs_its_handler(runner, orders):
    result = orders.confirm(7, tags=("new", {3: "three"}))
    assert isinstance(result, TaskResult)
    assert result.get(timeout=60) == {"order": 7, "tags": ["new", {"3": "three"}], "id": result.id, "request": "none"}
    assert (result.state, result.ready()) == ("SUCCESS", True)
    assert AsyncResult(result.id, app=runner.app).get(timeout=60)["order"] == 7


async def test_a_call_runs_its_handler_in_async_code(runner, orders):
    value = await orders.confirm(7)
    assert value["order"] == 7
    result = await orders.aconfirm(8)
    assert (await result.wait(timeout=60))["order"] == 8
    assert orders.confirm(9).get(timeout=60)["order"] == 9


async def test_an_async_test_may_use_it_as_an_async_context_manager(container, orders, journal):
    async with TaskRunner(container) as runner:
        assert (await runner.arun(OrderTasks.confirm, 7))["order"] == 7
        orders.archive(7)
        await runner.ajoin()
        assert "archived 7" in journal
    assert journal[-1] == "journal closed"


def test_a_handler_is_run_by_its_method(runner):
    assert runner.run(OrderTasks.add, 1, other=2) == 3
    with pytest.raises(OutOfStockError):
        runner.run(OrderTasks.refuse, "raise")
    with pytest.raises(TypeError, match="it is not a @task method"):
        runner.run(UnitOfWork.end)


def test_running_a_handler_whose_result_is_ignored_waits_for_it_too(runner, journal):
    runner.run(OrderTasks.archive, 7)
    assert "archived 7" in journal


def test_a_retry_begins_when_its_predecessor_has_told_of_it(runner, orders, monkeypatch):
    backend = runner.app.backend
    mark = backend.mark_as_retry

    def mark_slowly(*args: Any, **kwargs: Any) -> Any:
        time.sleep(0.05)
        return mark(*args, **kwargs)

    monkeypatch.setattr(backend, "mark_as_retry", mark_slowly)
    result = orders.deliver(7)
    runner.join()
    assert result.state == "SUCCESS"


def test_the_scope_is_that_of_one_execution_and_is_cleaned_up(runner, journal):
    runner.run(OrderTasks.add, 1, 2)
    runner.run(OrderTasks.add, 1, 2)
    assert journal == ["connected", "unit ended", "unit ended"]


def test_the_senders_context_does_not_reach_the_handler(runner, orders):
    token = REQUEST.set("42")
    try:
        assert orders.confirm(7).get(timeout=60)["request"] == "none"
    finally:
        REQUEST.reset(token)


def test_the_current_app_of_a_task_is_the_containers(runner):
    def current() -> str:
        return str(current_app.oid)

    current_task = runner.app.task(name="orders.current", shared=False)(current)
    assert current_task.delay().get(timeout=60) == runner.app.oid


def test_the_settings_are_the_applications():
    container = make(
        settings={"task_serializer": "pickle", "result_serializer": "pickle", "accept_content": ["pickle"]}
    )
    with TaskRunner(container):
        assert container.get(OrderClient).confirm(7, tags=("new",)).get(timeout=60)["tags"] == ("new",)


def test_what_the_application_does_not_accept_is_not_run(runner, orders, caplog):
    with pytest.raises(Exception, match="Refusing to deserialize"):
        with_options(orders, serializer="pickle").confirm(7).get(timeout=60)
    assert "The message of task 'orders.confirm' cannot be read" in caplog.text


# Errors


def test_an_error_comes_back_through_the_result_backend(runner, orders):
    with pytest.raises(OutOfStockError) as error:
        orders.refuse("raise").get(timeout=60)
    assert error.value.args == ("hammer", 3)
    assert error.value.__traceback__ is not None


async def test_an_error_comes_back_to_who_awaits(runner, orders):
    with pytest.raises(OutOfStockError):
        await orders.refuse("raise")


def test_a_value_that_the_backend_cannot_encode_fails_the_task(runner, orders):
    with pytest.raises(Exception, match="object"):
        orders.refuse("encode").get(timeout=60)


def test_a_handler_that_ends_the_process_does_not_end_the_test(runner, orders):
    with pytest.raises(HandlerExitError):
        orders.refuse("exit").get(timeout=60)

    def leave() -> None:
        sys.exit(3)

    plain = runner.app.task(name="orders.leave", shared=False)(leave)
    with pytest.raises(WorkerLostError, match=r"SystemExit\(3"):
        plain.delay().get(timeout=60)


def test_arguments_that_do_not_fit_fail_the_task(runner):
    with pytest.raises(HandlerArgumentsError):
        runner.app.send_task("orders.confirm").get(timeout=60)


def test_a_task_without_a_handler_fails_and_the_log_says_why(runner, orders, caplog):
    with pytest.raises(NotRegistered):
        orders.forget().get(timeout=60)
    with pytest.raises(NotRegistered):
        runner.app.send_task("orders.confrim").get(timeout=60)
    assert "no handler for task 'orders.confrim': did you mean 'orders.confirm'?" in caplog.text


def test_a_call_that_could_not_be_sent_fails_at_the_caller(runner, orders):
    with pytest.raises(TypeError, match="'order'"):
        orders.confirm(object())


# What a task sends itself


async def test_a_task_may_await_what_it_sends(runner, orders, caplog):
    assert await orders.split(4, "await") == 6
    assert "left" not in caplog.text


def test_join_waits_for_what_tasks_have_sent(runner, orders, journal):
    orders.split(3, "send")
    runner.join()
    assert {"archived 0", "archived 1", "archived 2"} <= {*journal}


def test_a_task_that_would_wait_for_itself_fails_instead(runner, orders):
    with pytest.raises(RuntimeError, match="Await the result instead"):
        orders.split(1, "block").get(timeout=60)


async def test_retries_are_made_without_delay(runner, orders, journal):
    result = orders.deliver(7)
    assert await result == 2
    assert [entry for entry in journal if "attempt" in entry] == ["attempt 0", "attempt 1", "attempt 2"]
    assert await runner.arun(OrderTasks.persist) == 1


async def test_progress_can_be_followed(runner, orders):
    steps = [step async for step in orders.deliver(7).progress()]
    assert await runner.arun(OrderTasks.add, 1, 2) == 3
    assert all((step.current, step.total) == (1, 2) for step in steps)


def test_chains_groups_and_chords_run(runner):
    add, total = (runner.app.tasks[name] for name in ("orders.add", "orders.sum"))
    assert chain(add.s(1, 2), add.s(3), add.s(4))().get(timeout=60) == 10
    assert group(add.s(1, 1), add.s(2, 2))().get(timeout=60) == [2, 4]
    assert chord([add.s(1, 1), add.s(2, 2)], total.s())().get(timeout=60) == 6


def test_links_run(runner, journal):
    add, refuse, note = (runner.app.tasks[f"orders.{name}"] for name in ("add", "refuse", "note"))
    add.apply_async((1, 2), link=note.s())
    refuse.apply_async(("raise",), link_error=note.si("refused"))
    runner.join()
    assert {3, "refused"} <= {entry for entry in journal if entry != "unit ended"}


# Options


def test_queue_countdown_and_priority_do_not_matter(runner, orders):
    assert with_options(orders, queue="another", countdown=3600).confirm(7).get(timeout=60)["order"] == 7


def test_an_expired_message_is_not_run(runner, orders):
    with pytest.raises(TaskRevokedError):
        with_options(orders, expires=-1).confirm(7).get(timeout=60)


def test_time_limits_hold(runner, orders):
    assert with_options(orders, soft_time_limit=0.02).watch(60).get(timeout=60) == "too long"
    with pytest.raises(TimeLimitExceeded):
        with_options(orders, time_limit=0.02).watch(60).get(timeout=60)


def test_revoking_has_no_effect(runner, orders):
    result = orders.watch(0.01)
    result.revoke()
    assert result.get(timeout=60) == "seen"


# The end


def test_the_end_waits_for_tasks_then_closes_the_container(container, orders, journal):
    with TaskRunner(container):
        orders.archive(7)
    assert journal == ["connected", "archived 7", "unit ended", "journal closed"]


def test_a_container_that_a_runner_has_closed_is_refused(container):
    runner = TaskRunner(container)
    with runner:
        pass
    for again in (runner, TaskRunner(container)):
        with pytest.raises(ContainerClosedError, match="container of this TaskRunner was closed"):
            again.__enter__()


def test_nothing_is_left_running(container, orders):
    before = {*threading.enumerate()}
    with TaskRunner(container):
        orders.split(3, "send")
    left = {thread.name for thread in {*threading.enumerate()} - before}
    assert not [name for name in left if "publish" not in name and "results" not in name]
    assert loop._runner is None


def test_a_task_that_does_not_end_is_named_and_cancelled(container, orders, journal):
    runner = TaskRunner(container, timeout=0.02)
    with pytest.raises(TasksStillRunError) as error, runner:
        result = orders.watch(60)
    assert str(error.value).startswith(f"After 0.02 s there still run: orders.watch[{result.id}].")
    assert journal == ["connected", "unit ended", "journal closed"]
    with pytest.raises(TaskRevokedError):
        result.get(timeout=60)
    assert result.id not in state.requests


def test_a_test_that_fails_does_not_wait(container, orders, journal):
    def fail() -> None:
        orders.watch(60)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), TaskRunner(container, timeout=60):
        fail()
    assert journal[-1] == "journal closed"


def test_results_remain(container, orders):
    with TaskRunner(container):
        result = orders.confirm(7)
    assert result.get(timeout=60)["order"] == 7


def test_the_app_gets_its_broker_back(container, journal):
    app = container.get(Celery)
    producer = app.producer_or_acquire
    with TaskRunner(container):
        assert app.producer_or_acquire != producer
    assert app.producer_or_acquire == producer


def test_waiting_for_a_result_has_an_end(container, orders):
    with pytest.raises(CeleryTimeoutError), TaskRunner(container):
        orders.watch(60).get(timeout=0.01)


def test_runners_do_not_disturb_each_other(container, orders, journal):
    with TaskRunner(container) as outer:
        other = make()
        with TaskRunner(other) as inner:
            assert inner.run(OrderTasks.add, 1, 2) == outer.run(OrderTasks.add, 1, 2) == 3
        assert outer.run(OrderTasks.add, 3, 4) == 7
        assert other.get(Journal).entries[-1] == "journal closed"
    assert journal[-1] == "journal closed"


def test_a_component_that_cannot_be_made_fails_the_start():
    @component(lazy=True)
    class Broken:
        @configure
        async def connect(self) -> None:
            raise ConnectionError("refused")

    @component(scope="prototype")
    class Tasks:
        def __init__(self, broken: Broken) -> None: ...

        @task("broken.run")
        async def run(self) -> None: ...

    container = make(components=(Broken, Tasks))
    with pytest.raises(Exception, match="refused"), TaskRunner(container):
        pytest.fail("it must not start")
    assert loop._runner is None


def test_a_container_without_handlers_of_its_own_is_refused(container):
    app = container.get(Celery)
    newer = application(*COMPONENTS, overrides={Celery: app})
    assert newer.get(PicoTaskRegistrar) is not None
    with pytest.raises(LookupError, match="Put 'pico_celery' among the modules"):
        TaskRunner(container)


# gevent

PATCHED = """
from gevent import monkey
monkey.patch_all()

import asyncio

from pico_celery import task
from pico_celery_worker.testing import TaskRunner
from pico_ioc import component, init

@component(scope="prototype")
class Greetings:
    @task("greetings.hello")
    async def hello(self, name: str) -> str:
        await asyncio.sleep(0.01)
        return f"Hello {name}"

def make():
    return TaskRunner(init(modules=["pico_celery", __name__]))

async def main():
    async with make() as runner:
        print(await runner.arun(Greetings.hello, "Grace"))

with make() as runner:
    print(runner.run(Greetings.hello, "Ada"))
asyncio.run(main())
"""


def test_plain_and_async_tests_can_use_it_in_a_process_that_gevent_has_patched(tmp_path: Path):
    script = tmp_path / "patched.py"
    script.write_text(PATCHED)
    done = subprocess.run([sys.executable, script], check=False, capture_output=True, text=True, timeout=30)
    assert done.stdout.splitlines() == ["Hello Ada", "Hello Grace"], done.stderr


# pytest


USERS_TEST = """
from pico_celery import task
from pico_ioc import component, init

@component(scope="prototype")
class Greetings:
    @task("greetings.hello")
    async def hello(self, name):
        return f"Hello {name}"

def test_sync(task_runner):
    runner = task_runner(init(modules=["pico_celery", __name__]), timeout=60)
    assert runner.run(Greetings.hello, "Ada") == "Hello Ada"

async def test_async(task_runner):
    runner = task_runner(init(modules=["pico_celery", __name__]))
    assert await runner.arun(Greetings.hello, "Ada") == "Hello Ada"
"""


def test_pytest_finds_the_fixture_by_itself(tmp_path: Path):
    settings = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
    (tmp_path / "pytest.ini").write_text(settings)
    (tmp_path / "test_it.py").write_text(USERS_TEST)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert "2 passed" in done.stdout, done.stdout + done.stderr
