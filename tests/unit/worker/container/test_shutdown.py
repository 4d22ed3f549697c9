"""The end of a container: what is cleaned up, in which order, whatever fails."""

import sys
from types import ModuleType

import pytest
from pico_ioc import EventBus, PicoContainer, cleanup, component, factory, init, provides
from pico_ioc.event_bus import Event
from pico_ioc.exceptions import EventBusClosedError

from pico_celery_worker.container.shutdown import close

closed: list[str] = []


def container_of(*classes: type) -> PicoContainer:
    """Wire some classes, and nothing else."""
    module = ModuleType("closing_components")
    for cls in classes:
        cls.__module__ = module.__name__
        setattr(module, cls.__name__, cls)
    sys.modules[module.__name__] = module
    closed.clear()
    try:
        return init(modules=[module])
    finally:
        del sys.modules[module.__name__]


@component(lazy=True)
class Pool:
    def touch(self) -> None:
        pass

    async def __aclose__(self) -> None:
        closed.append("pool")


@component
class Repository:
    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    @cleanup
    async def close(self) -> None:
        closed.append("repository")
        raise RuntimeError("the hook fails")


@component(lazy=True)
class Service:
    def __init__(self, repository: Repository) -> None:
        self.repository = repository

    def touch(self) -> None:
        pass

    @cleanup
    def close(self) -> None:
        closed.append("service")


async def test_each_is_closed_before_what_it_depends_on_whatever_fails(caplog: pytest.LogCaptureFixture) -> None:
    container = container_of(Pool, Repository, Service)
    container.get(Service).touch()
    container.get(Pool).touch()
    await close(container, 1)
    assert closed == ["service", "repository", "pool"]
    assert "Clean-up Repository.close of the container failed" in caplog.text


async def test_what_nobody_has_used_is_not_made() -> None:
    container = container_of(Pool, Repository, Service)
    container.get(Pool).touch()
    await close(container, 1)
    assert closed == ["repository", "pool"]


async def test_it_happens_once_and_the_singletons_stay_what_they_are() -> None:
    container = container_of(Pool)
    pool = container.get(Pool)
    pool.touch()
    await close(container, 1)
    assert closed == ["pool"]
    assert container.get(Pool) is pool


class Connection:
    def __init__(self) -> None:
        self.is_open = True


@component
class Settings: ...


@factory
class Connections:
    """Makes what it closes."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @provides(Connection, lazy=True)
    def connection(self) -> Connection:
        return Connection()

    @cleanup
    def close(self, connection: Connection) -> None:
        connection.is_open = False
        closed.append("connection")


@factory
class Others:
    """Has made nothing."""

    @provides(list, lazy=True)
    def numbers(self) -> list[int]:
        raise AssertionError

    @cleanup
    def close(self) -> None:
        raise AssertionError


async def test_a_factory_closes_what_it_has_made(caplog: pytest.LogCaptureFixture) -> None:
    container = container_of(Settings, Connections, Others)
    connection = container.get(Connection)
    assert connection.is_open
    await close(container, 1)
    assert closed == ["connection"]
    assert not connection.is_open
    assert caplog.records == []


async def test_the_event_bus_is_closed() -> None:
    container = init(modules=["pico_ioc.event_bus"])
    bus = container.get(EventBus)
    await close(container, 1)
    with pytest.raises(EventBusClosedError):
        await bus.publish(Event())
    assert container.container_id not in PicoContainer.all_containers()
