"""Every Python sample of the specification runs as it is written there, and does what the text around it says.

The samples are read from the specification when the tests run. What a sample takes for granted, such as its services,
stands here.
"""

import asyncio
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import NonCallableMock

import pytest
from celery import Celery
from celery.result import AsyncResult
from pico_ioc import DictSource, FlatDictSource, PicoContainer, component, configuration, init

from pico_celery import task
from pico_celery_worker.loop import close_runner

SPECIFICATION = Path(__file__).parents[2] / "shared" / "spec"

pytestmark = pytest.mark.skipif(
    not SPECIFICATION.is_dir(), reason="the specification is not beside this repository, in ../shared/spec"
)

IN_MEMORY = {"broker_url": "memory://", "backend_url": "cache+memory://"}


def samples(document: str) -> list[str]:
    text = (SPECIFICATION / document).read_text()
    return [textwrap.dedent(block) for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)]


def sample(document: str, *, containing: str) -> str:
    """Return the first sample with a certain text in it."""
    return next(block for block in samples(document) if containing in block)


def fill_in(skill_sample: str, name: str) -> str:
    """Put a task's name in the place of the skill's argument."""
    return skill_sample.replace("${ARGUMENTS}", name).replace("$ARGUMENTS", name)


class UserService:
    async def create_user(self, username: str) -> str:
        await asyncio.sleep(0)
        return f"user {username}"


class SomeService:
    async def process(self, item_id: int) -> int:
        await asyncio.sleep(0)
        return item_id


@dataclass
class EmailService:
    sent: list[dict[str, str]] = field(default_factory=list)

    async def send(self, **email: str) -> None:
        await asyncio.sleep(0)
        self.sent.append(email)


@dataclass
class Order:
    id: int
    customer_email: str


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a sample as a module that knows the names its text takes for granted."""

    def load(code: str, **surroundings: Any) -> ModuleType:
        module = ModuleType(f"specification_sample_{len(code)}")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        vars(module).update(surroundings)
        exec(compile(code, module.__name__, "exec", dont_inherit=True), vars(module))
        return module

    return load


@pytest.fixture(autouse=True)
def no_loop_left() -> Iterator[None]:
    yield
    close_runner()


def start(*modules: ModuleType, **settings: Any) -> PicoContainer:
    container = init(
        modules=["pico_celery", *modules], config=configuration(DictSource({"celery": {**IN_MEMORY, **settings}}))
    )
    container.get(Celery).control.purge()  # the broker in memory is that of the process: other tests used it before
    return container


def take_message(app: Celery, queue: str) -> tuple[str, list[Any], dict[str, Any]]:
    """Take the one message of a queue: the task's name and arguments."""
    with app.connection_for_read() as connection, connection.SimpleQueue(queue) as messages:
        message = messages.get(block=False)
        message.ack()
        assert messages.qsize() == 0
    args, kwargs, _ = message.payload
    return message.headers["task"], args, kwargs


def arguments(stub: Any, args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Say what a handler with the parameters of a stub would get."""
    names = stub.__code__.co_varnames[1 : stub.__code__.co_argcount]
    return {**dict(zip(names, args, strict=False)), **kwargs}


def test_no_sample_goes_untested():
    assert [len(samples("architecture.md")), len(samples("task-skill.md"))] == [3, 4]


# architecture.md


@pytest.fixture
def user_tasks(load: Any) -> ModuleType:
    code = sample("architecture.md", containing="class UserTasks")
    return load(code, component=component, task=task, UserService=component(type("UserService", (UserService,), {})))


async def test_the_client_sends_the_named_task_to_the_named_queue(load):
    module = load(sample("architecture.md", containing="class UserTaskClient"))
    container = start(module)
    client = await container.aget(module.UserTaskClient)

    result = client.create_user("alice", email="alice@example.org")

    assert isinstance(result, AsyncResult)
    name, args, kwargs = take_message(container.get(Celery), "high_priority")
    assert name == "tasks.create_user"
    assert arguments(module.UserTaskClient.create_user.__wrapped__, args, kwargs) == {
        "username": "alice",
        "email": "alice@example.org",
    }


def test_the_handler_runs_with_what_the_container_injects(user_tasks):
    app = start(user_tasks).get(Celery)

    assert app.tasks["tasks.create_user"].apply(["alice"]).get() == "user alice"


def test_each_execution_gets_a_component_of_its_own(user_tasks, monkeypatch):
    made = []
    app = start(user_tasks).get(Celery)
    original = user_tasks.UserTasks.create_user

    async def create_user(self, username):
        made.append(self)
        return await original(self, username)

    monkeypatch.setattr(user_tasks.UserTasks, "create_user", create_user)
    for name in ("alice", "bob"):
        assert app.tasks["tasks.create_user"].apply([name]).get() == f"user {name}"
    first, second = made
    assert first is not second
    assert first.service is second.service


async def test_a_component_is_tested_by_itself_with_its_dependencies_mocked(user_tasks):
    service = NonCallableMock(spec=user_tasks.UserService)  # what can be called, pico-ioc takes for a provider
    service.create_user.return_value = "mocked"
    container = init(modules=["pico_celery", user_tasks], overrides={user_tasks.UserService: service})

    tasks = await container.aget(user_tasks.UserTasks)

    assert await tasks.create_user("alice") == "mocked"
    service.create_user.assert_awaited_once_with("alice")


async def test_the_wrapper_does_what_its_pseudo_code_says(user_tasks, load):
    """What the pseudo-code leaves open is the component and the method's name."""
    container = start(user_tasks)
    code = sample("architecture.md", containing="generated_task_wrapper").replace('"method_name"', '"create_user"')
    module = load(code, container=container, ComponentClass=user_tasks.UserTasks)

    as_written = await module.generated_task_wrapper("alice")

    registered = container.get(Celery).tasks["tasks.create_user"]
    assert asyncio.iscoroutinefunction(registered.run)
    assert await registered.run("alice") == as_written == "user alice"


# task-skill.md


@pytest.fixture
def worker_and_client(load: Any) -> tuple[ModuleType, ModuleType]:
    worker = fill_in(sample("task-skill.md", containing="${ARGUMENTS}Worker"), "Resize")
    client = fill_in(sample("task-skill.md", containing="${ARGUMENTS}Client"), "Resize")
    return load(worker, SomeService=component(type("SomeService", (SomeService,), {}))), load(client)


def test_the_skills_worker_runs_the_task(worker_and_client):
    worker, _ = worker_and_client
    app = start(worker).get(Celery)

    assert app.tasks["tasks.Resize"].apply([42]).get() == {"status": "done", "item_id": 42}


def test_the_skills_client_sends_what_the_worker_takes(worker_and_client):
    worker, client = worker_and_client
    container = start(worker, client)
    app = container.get(Celery)

    result = container.get(client.ResizeClient).process(42)

    assert isinstance(result, AsyncResult)
    name, args, kwargs = take_message(app, "celery")
    assert name == "tasks.Resize"
    assert app.tasks[name].apply(args, kwargs).get() == {"status": "done", "item_id": 42}


@pytest.fixture
def settings(load: Any) -> ModuleType:
    return load(sample("task-skill.md", containing="class CelerySettings"))


@pytest.mark.parametrize("config", [None, configuration()], ids=["no configuration", "no sources"])
def test_the_settings_sample_brings_its_own_values(settings, config):
    container = init(modules=["pico_celery", settings], config=config)

    conf = container.get(Celery).conf
    assert conf.broker_url == "redis://localhost:6379/0"
    assert conf.result_backend == "redis://localhost:6379/1"
    assert conf.task_track_started is True


def test_flat_sources_fill_the_settings_sample(settings):
    source = FlatDictSource(
        {
            "CELERY_BROKER_URL": "memory://",
            "CELERY_BACKEND_URL": "cache+memory://",
            "CELERY_TASK_TRACK_STARTED": "false",
        },
        prefix="CELERY_",
    )
    container = init(modules=["pico_celery", settings], config=configuration(source))

    conf = container.get(Celery).conf
    assert (conf.broker_url, conf.result_backend, conf.task_track_started) == ("memory://", "cache+memory://", False)


async def test_the_complete_example_sends_the_mail_of_a_completed_order(load):
    emails = component(type("EmailService", (EmailService,), {}))
    module = load(sample("task-skill.md", containing="class OrderService"), EmailService=emails, Order=Order)
    container = start(module)
    app = container.get(Celery)
    orders = await container.aget(module.OrderService)

    await orders.complete_order(Order(id=7, customer_email="alice@example.org"))

    name, args, kwargs = take_message(app, "celery")
    assert name == "notifications.send_email"
    outcome = await asyncio.to_thread(lambda: app.tasks[name].apply(args, kwargs).get())
    assert outcome == {"sent_to": "alice@example.org"}
    assert container.get(emails).sent == [
        {"to": "alice@example.org", "subject": "Order confirmed", "body": "Order 7 is confirmed"}
    ]
