"""What a plan does that the container cannot, and how its failures speak."""

import asyncio
import gc
import logging
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from pico_ioc import (
    ComponentCreationError,
    ProviderNotFoundError,
    cleanup,
    component,
    configure,
    factory,
    provides,
)

from pico_celery_core._pico_ioc import unwrap_proxy
from pico_celery_worker.execution.scope import TaskScope
from tests.unit.worker.containers import bare_container, plan_for, planned


class Conn:
    def __init__(self) -> None:
        self.closed = 0

    async def __aclose__(self) -> None:
        self.closed += 1


@component
class Shared:
    def __init__(self) -> None:
        self.closed = 0

    @cleanup
    def close(self) -> None:
        self.closed += 1


@component(scope="prototype", lazy=True)
class LazyAsync:
    ready = False

    async def __ainit__(self) -> None:
        await asyncio.sleep(0)
        self.ready = True


async def test_a_lazy_prototype_that_has_to_be_awaited_is_made_at_once():
    @component(scope="prototype")
    class Root:
        def __init__(self, part: LazyAsync) -> None:
            self.part = part

    root = await planned(bare_container(LazyAsync, Root), Root)
    assert root.part.ready
    assert type(root.part) is LazyAsync


async def test_collected_prototypes_are_awaited_and_closed():
    class Plugin:
        closed = 0

        async def __aclose__(self) -> None:
            self.closed += 1

    @component(scope="prototype")
    class One(Plugin):
        async def __ainit__(self) -> None:
            self.ready = True

    @component(scope="prototype", name="two")
    class Two(Plugin):
        ready = True

    @component(scope="prototype")
    class Root:
        def __init__(self, plugins: list[Plugin], by_name: dict[str, Plugin], by_type: dict[type, Plugin]) -> None:
            self.plugins, self.by_name, self.by_type = plugins, by_name, by_type

    root = await planned(bare_container(One, Two, Root), Root)
    assert {type(plugin) for plugin in root.plugins} == {One, Two}
    assert {name: type(plugin) for name, plugin in root.by_name.items()} == {"One": One, "two": Two}
    assert root.by_type.keys() == {One, Two}
    every = [*root.plugins, *root.by_name.values(), *root.by_type.values()]
    assert all(plugin.ready and plugin.closed == 1 for plugin in every)


async def test_an_optional_dependency_that_is_made_is_awaited_and_closed_too():
    @component(scope="prototype")
    class Part(Conn):
        async def __ainit__(self) -> None:
            self.ready = True

    @component(scope="prototype")
    class Root:
        def __init__(self, part: Part | None = None) -> None:
            self.part = part

    root = await planned(bare_container(Part, Root), Root)
    assert root.part.ready
    assert root.part.closed == 1


@pytest.mark.parametrize("way", ["__init__", "__ainit__", "configure"])
async def test_an_optional_dependency_that_fails_is_left_to_its_default_and_what_was_made_of_it_is_closed(way):
    made = []

    @component(scope="prototype")
    class Inner(Conn):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    class Part:
        def __init__(self, inner: Inner) -> None:
            self.fail("__init__")

        async def __ainit__(self) -> None:
            self.fail("__ainit__")

        @configure
        def set_up(self) -> None:
            self.fail("configure")

        def fail(self, where: str) -> None:
            if where == way:
                raise ValueError(where)

    @component(scope="prototype")
    class Root:
        def __init__(self, part: Part | None = None, number: int = 3) -> None:
            self.part, self.number = part, number

    root = await planned(bare_container(Inner, component(scope="prototype")(Part), Root), Root)
    assert (root.part, root.number) == (None, 3)
    assert [inner.closed for inner in made] == [1]


@component(scope="prototype")
class Failing:
    def __init__(self) -> None:
        raise ValueError("no disk")


@component(scope="prototype")
class Middle:
    def __init__(self, failing: Failing) -> None: ...


@component(scope="prototype")
class Top:
    def __init__(self, middle: Middle) -> None: ...


async def test_a_failure_names_the_component_that_failed_and_keeps_the_cause():
    with pytest.raises(ComponentCreationError, match="for key: Failing; cause: ValueError: no disk") as caught:
        await planned(bare_container(Failing, Middle, Top), Top)
    middle = caught.value.__cause__
    failing = middle.__cause__
    assert [error.key for error in (caught.value, middle, failing)] == [Top, Middle, Failing]
    assert isinstance(failing.__cause__, ValueError)


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_failing_provider_function_is_named_by_what_it_provides(is_async):
    def make() -> Conn:
        raise ValueError("no network")

    async def make_async() -> Conn:
        raise ValueError("no network")

    @component(scope="prototype")
    class Root:
        def __init__(self, conn: Conn) -> None: ...

    function = provides(Conn, scope="prototype")(make_async if is_async else make)
    with pytest.raises(ComponentCreationError, match="for key: Conn; cause: ValueError: no network"):
        await planned(bare_container(function, Root), Root)


async def test_a_missing_dependency_is_named_with_who_needs_it():
    @component(scope="prototype")
    class Root:
        def __init__(self, limit: int) -> None: ...

    with pytest.raises(ProviderNotFoundError, match=r"'int' not found \(required by: 'Root'\)"):
        await planned(bare_container(Root), Root)


async def test_a_soft_time_limit_that_strikes_during_resolution_stays_one():
    @component(scope="prototype")
    class Slow:
        async def __ainit__(self) -> None:
            raise SoftTimeLimitExceeded(1)

    @component(scope="prototype")
    class Optional:
        def __init__(self, slow: Slow | None = None) -> None: ...

    with pytest.raises(SoftTimeLimitExceeded):
        await planned(bare_container(Slow, Optional), Optional)


async def test_a_configure_that_returns_an_awaitable_says_what_to_do():
    async def later() -> None: ...

    @component(scope="prototype")
    class Root:
        @configure
        def set_up(self) -> Any:
            return later()

    with pytest.raises(ComponentCreationError, match="set_up returned an awaitable: declare it `async def`"):
        await planned(bare_container(Root), Root)


async def test_configure_methods_may_be_static_or_call_self_what_they_like():
    seen = []

    @component(scope="prototype")
    class Root:
        @configure
        def one(this, shared: Shared) -> None:  # noqa: N805
            seen.append(type(this))

        @configure
        @staticmethod
        def two(shared: Shared) -> None:
            seen.append(type(shared))

        @configure
        @classmethod
        async def zwei(cls, shared: Shared) -> None:
            seen.append(cls)

    await planned(bare_container(Shared, Root), Root)
    assert seen == [Root, Shared, Root]


async def test_a_factory_is_made_for_each_call_and_awaited_but_not_configured():
    made = []

    @factory
    class Connections:
        def __init__(self, shared: Shared) -> None:
            self.shared, self.ready, self.configured = shared, False, False
            made.append(self)

        async def __ainit__(self) -> None:
            self.ready = True

        @configure
        def set_up(self) -> None:
            self.configured = True

        @provides(Conn, scope="prototype")
        async def conn(self, shared: Shared) -> Conn:
            assert self.ready
            assert self.shared is shared
            return Conn()

    @component(scope="prototype")
    class Root:
        def __init__(self, one: Conn, two: Conn) -> None:
            self.conns = [one, two]

    root = await planned(bare_container(Shared, Connections, Root), Root)
    assert [conn.closed for conn in root.conns] == [1, 1]
    assert len(made) == 2
    assert not any(connections.configured for connections in made)


async def test_a_shared_instance_that_a_provider_hands_out_is_not_closed_with_the_execution():
    class Port: ...

    @provides(Port, scope="prototype")
    def port(shared: Shared) -> Port:
        return shared  # type: ignore[return-value]

    @component(scope="prototype")
    class Root:
        def __init__(self, port: Port) -> None:
            self.port = port

    container = bare_container(Shared, port, Root)
    assert (await planned(container, Root)).port is container.get(Shared)
    assert container.get(Shared).closed == 0


async def test_an_override_is_used_and_what_was_given_for_all_executions_is_not_closed_with_one():
    @component(scope="prototype")
    class Part(Conn): ...

    @component(scope="prototype")
    class Root:
        def __init__(self, part: Part) -> None:
            self.part = part

    fake = Conn()
    assert (await planned(bare_container(Part, Root, overrides={Part: fake}), Root)).part is fake
    assert fake.closed == 0
    made = await planned(bare_container(Part, Root, overrides={Part: Conn}), Root)
    assert type(made.part) is Conn
    assert made.part.closed == 1

    async def make() -> Conn:
        return fake

    assert (await planned(bare_container(Part, Root, overrides={Part: make}), Root)).part is fake


async def test_a_singleton_override_given_for_a_lazy_async_one_needs_no_awaiting():
    @component(lazy=True)
    class Pool:
        async def __ainit__(self) -> None:
            raise AssertionError("the real one")

    @component(scope="prototype")
    class Root:
        def __init__(self, pool: Pool) -> None:
            self.pool = pool

    class Fake:
        size = 3

        @configure
        async def set_up(self) -> None:
            self.size = 4

    for given in (Fake(), Fake):
        root = await planned(bare_container(Pool, Root, overrides={Pool: given}), Root)
        assert root.pool.size == 4


async def test_a_component_that_a_provider_makes_is_shared_within_the_execution():
    class Port: ...

    @provides(Port, scope="task")
    async def port() -> Port:
        return Port()

    @component(scope="prototype")
    class Part:
        def __init__(self, port: Port) -> None:
            self.port = port

    @component(scope="prototype")
    class Root:
        def __init__(self, port: Port, part: Part) -> None:
            self.port, self.part = port, part

    container = bare_container(port, Part, Root)
    first, second = await planned(container, Root), await planned(container, Root)
    assert first.port is first.part.port
    assert first.port is not second.port


async def test_a_lazy_singleton_as_root_is_made_when_it_is_asked_for():
    @component(lazy=True)
    class Root:
        def __init__(self) -> None:
            raise ValueError("no disk")

    with pytest.raises(ComponentCreationError, match="no disk"):
        await planned(bare_container(Root), Root)


async def test_a_cycle_through_configure_methods_ends_as_the_containers():
    @component(scope="prototype")
    class Root:
        @configure
        def set_up(self, other: "Other") -> None: ...

    @component(scope="prototype")
    class Other:
        def __init__(self, root: Root) -> None: ...

    vars(Root)["set_up"].__annotations__["other"] = Other
    with pytest.raises((ComponentCreationError, RecursionError)):
        await planned(bare_container(Root, Other), Root)


async def test_optional_dependencies_that_fail_leave_no_garbage():
    @component(scope="prototype")
    class Root:
        def __init__(self, failing: Failing | None = None) -> None: ...

    container = bare_container(Failing, Root)
    plan = plan_for(container, Root)
    async with TaskScope(container, "t", 5) as scope:
        await plan.resolve(scope)
        gc.collect()
        gc.disable()
        try:
            for _ in range(1000):
                await plan.resolve(scope)
            assert gc.collect() < 1000  # what other tests have left running makes some
        finally:
            gc.enable()


async def test_a_plan_gives_intercepted_components_in_their_proxy_and_closes_what_is_behind():
    from tests.unit.worker.graphs import Interceptor, intercepted_by

    @component(scope="prototype")
    class Root(Conn):
        @intercepted_by(Interceptor)
        def run(self) -> None: ...

    root = await planned(bare_container(Interceptor, Root), Root)
    assert unwrap_proxy(root) is not root
    assert unwrap_proxy(root).closed == 1


@pytest.mark.parametrize("is_async", [False, True])
async def test_where_a_type_fails_the_component_that_the_parameter_is_named_after_takes_its_place(is_async):
    @component(scope="prototype", name="spare")
    class Spare(Conn): ...

    @component(scope="prototype", name="lost")
    class Lost:
        def __init__(self) -> None:
            raise KeyError("lost too")

    class Part:
        def __init__(self) -> None:
            raise ValueError("the first")

    if is_async:

        async def create(self: Any) -> None: ...

        Part.__ainit__ = create  # type: ignore[attr-defined]
    part: Any = component(scope="prototype")(Part)

    @component(scope="prototype")
    class Root:
        def __init__(self, spare: part, lost: part = None) -> None:
            self.spare, self.lost = spare, lost

    @component(scope="prototype")
    class Unlucky:
        def __init__(self, lost: part) -> None: ...

    container = bare_container(part, Spare, Lost, Root, Unlucky)
    root = await planned(container, Root)
    assert type(root.spare) is Spare
    assert root.spare.closed == 1
    assert root.lost is None
    with pytest.raises(ComponentCreationError, match="the first"):
        await planned(container, Unlucky)


async def test_a_soft_time_limit_that_strikes_in_such_a_place_stays_one():
    @component(scope="prototype", name="slow")
    class Slow:
        async def __ainit__(self) -> None:
            raise SoftTimeLimitExceeded

    @component(scope="prototype")
    class Root:
        def __init__(self, slow: Failing) -> None: ...

    with pytest.raises(SoftTimeLimitExceeded):
        await planned(bare_container(Failing, Slow, Root), Root)


async def test_what_lives_in_another_scope_is_left_to_the_container(caplog):
    @component(scope="request")
    class Part: ...

    @component(scope="prototype")
    class Root:
        def __init__(self, part: Part) -> None:
            self.part = part

    container = bare_container(Part, Root)
    with caplog.at_level(logging.DEBUG, "pico_celery_worker"), container.scope("request", 1):
        assert (await planned(container, Root)).part is container.get(Part)
    assert "Part: its scope is 'request'" in caplog.text
    with pytest.raises(ComponentCreationError, match="Cannot resolve component in scope 'request'"):
        await planned(container, Root)


async def test_a_component_that_can_be_awaited_itself_is_left_to_the_container():
    @component(scope="prototype")
    class Part:
        def __await__(self) -> Any:
            yield from asyncio.sleep(0, "awaited").__await__()
            return "awaited"

    assert await planned(bare_container(Part), Part) == "awaited"


async def test_an_optional_singleton_that_fails_is_tried_again_the_next_time():
    attempts = []

    class Clock: ...

    def make() -> Clock:
        attempts.append(1)
        if len(attempts) == 1:
            raise ValueError("not yet")
        return Clock()

    @component(scope="prototype")
    class Root:
        def __init__(self, clock: Clock | None = None) -> None:
            self.clock = clock

    container = bare_container(Root, overrides={Clock: make})
    plan = plan_for(container, Root)
    async with TaskScope(container, "t", 5) as scope:
        roots = [await plan.resolve(scope) for _ in range(3)]
    assert roots[-1].clock is container.get(Clock)
    assert len(attempts) == 2


async def test_a_singleton_cannot_take_part_in_an_execution():
    @component(scope="task")
    class Unit: ...

    @component(lazy=True)
    class Pool:
        @configure
        async def set_up(self, unit: Unit) -> None: ...

    @component(scope="prototype")
    class Root:
        def __init__(self, pool: Pool) -> None: ...

    with pytest.raises(ComponentCreationError, match=r"Pool.*cannot depend on the instances of one execution"):
        await planned(bare_container(Unit, Pool, Root), Root)
