"""A container whose Celery app sends into memory, and a look at what was sent."""

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from celery import Celery
from kombu import Connection, Message
from kombu.transport import memory
from pico_ioc import DictSource, PicoContainer, configuration, init

from pico_celery_client.publishing.redis import RedisBatch

MakeContainer = Callable[..., PicoContainer]


@pytest.fixture
def app() -> Iterator[Celery]:
    """A Celery app whose broker and result backend are in this process's memory."""
    _empty_the_memory()  # others in this process have sent into it too
    app = Celery("tests", broker="memory://", backend="cache+memory://", set_as_current=False)
    yield app
    app.close()
    _empty_the_memory()


def _empty_the_memory() -> None:
    memory.Channel.queues.clear()
    memory.Transport.global_state.clear()


@pytest.fixture
def container(app: Celery) -> MakeContainer:
    """Make a container of the given components, the client package and the app."""

    def make(*components: type, overrides: dict[Any, Any] | None = None) -> PicoContainer:
        application = ModuleType("application")
        vars(application).update({component.__name__: component for component in components})
        return init(
            modules=["pico_celery_client", application],
            config=configuration(DictSource({"celery": {}})),
            overrides={Celery: app, **(overrides or {})},
        )

    return make


@pytest.fixture
def sending_app() -> Iterator[Callable[..., Celery]]:
    """Make an app that sends to a broker, patiently, and keeps no results unless it is told where."""
    apps: list[Celery] = []

    def make(broker: str, backend: str = "disabled://", **settings: Any) -> Celery:
        app = Celery("tests", broker=broker, backend=backend, set_as_current=False)
        app.conf.update({"pico_publish_timeout": 60, **settings})
        apps.append(app)
        return app

    yield make
    for app in apps:
        app.close()


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many messages each batch had that was sent to Redis."""
    sizes: list[int] = []
    send = RedisBatch.send

    def counted(batch: RedisBatch) -> list[Exception | None]:
        outcomes = send(batch)
        sizes.append(len(outcomes))
        return outcomes

    monkeypatch.setattr(RedisBatch, "send", counted)
    return sizes


class Sent:
    """A message as a worker would see it."""

    def __init__(self, message: Message) -> None:
        self.headers: dict[str, Any] = message.headers
        self.properties: dict[str, Any] = message.properties
        self.task: str = message.headers["task"]
        self.id: str = message.headers["id"]
        self.delivery_info: dict[str, Any] = message.delivery_info
        args, self.kwargs, self.embed = message.decode()
        self.args: list[Any] = args


@pytest.fixture
def sent(app: Celery) -> Callable[..., list[Sent]]:
    """Take all messages from a queue."""

    def take(queue: str = "celery") -> list[Sent]:
        with Connection("memory://") as connection, connection.SimpleQueue(queue) as simple:
            messages = []
            while True:
                try:
                    messages.append(Sent(simple.get_nowait()))
                except simple.Empty:
                    return messages

    return take
