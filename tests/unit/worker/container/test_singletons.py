"""Singletons that have to be awaited: made once, on the loop, before the first task."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from pico_ioc import ComponentCreationError, cleanup, component, configure, intercepted_by, provides

from pico_celery_core._pico_ioc import unwrap_proxy
from pico_celery_worker.container.singletons import AsyncSingletons
from pico_celery_worker.execution.scope import TaskScope
from tests.unit.worker.containers import bare_container, plan_for, planned
from tests.unit.worker.graphs import Interceptor


class Gate:
    """Counts who comes, and lets nobody pass before it is opened."""

    def __init__(self) -> None:
        self.came = 0
        self.reached, self.open = asyncio.Event(), asyncio.Event()

    async def __call__(self) -> None:
        self.came += 1
        self.reached.set()
        await self.open.wait()


def pool_and_root(gate: Callable[[], Any], way: str) -> tuple[Any, Any, Any]:
    class Pool:
        ready = False

    @component(lazy=True)
    class ByAinit(Pool):
        async def __ainit__(self) -> None:
            await gate()
            self.ready = True

    @component(lazy=True)
    class ByConfigure(Pool):
        @configure
        async def connect(self) -> None:
            await gate()
            self.ready = True

    @provides(Pool, lazy=True)
    async def by_provider() -> Pool:
        await gate()
        pool = Pool()
        pool.ready = True
        return pool

    provider: Any = {"ainit": ByAinit, "configure": ByConfigure, "provides": by_provider}[way]

    @component(scope="prototype")
    class Root:
        def __init__(self, pool: Pool) -> None:
            self.pool = pool

    return Pool, provider, Root


@pytest.mark.parametrize("way", ["ainit", "configure", "provides"])
async def test_a_thousand_first_tasks_make_it_once(way):
    gate = Gate()
    _, provider, root = pool_and_root(gate, way)
    container = bare_container(provider, root)
    plan = plan_for(container, root)

    async def run() -> Any:
        async with TaskScope(container, "t", 5) as scope:
            return (await plan.resolve(scope)).pool

    tasks = [asyncio.create_task(run()) for _ in range(1000)]
    await gate.reached.wait()
    gate.open.set()
    pools = await asyncio.gather(*tasks)
    assert gate.came == 1
    assert len({id(pool) for pool in pools}) == 1
    assert pools[0].ready


async def test_two_task_components_share_one():
    made = []

    @component(lazy=True)
    class Pool:
        async def __ainit__(self) -> None:
            made.append(self)

    @component(scope="prototype")
    class One:
        def __init__(self, pool: Pool) -> None:
            self.pool = pool

    @component(scope="prototype")
    class Two:
        def __init__(self, pool: Pool) -> None:
            self.pool = pool

    container = bare_container(Pool, One, Two)
    singletons = AsyncSingletons(container)
    plans = [plan_for(container, One, singletons), plan_for(container, Two, singletons)]
    await asyncio.gather(*(plan.prepare() for plan in plans))
    async with TaskScope(container, "t", 5) as scope:
        one, two = [await plan.resolve(scope) for plan in plans]
    assert one.pool is two.pool is made[0]
    assert len(made) == 1


async def test_a_failure_names_the_component_keeps_the_cause_and_is_tried_again():
    attempts = []

    async def gate() -> None:
        attempts.append(1)
        if len(attempts) < 3:
            raise ConnectionError("refused")

    _, provider, root = pool_and_root(gate, "ainit")
    container = bare_container(provider, root)
    plan = plan_for(container, root)
    for _ in range(2):
        with pytest.raises(ComponentCreationError, match="ByAinit; cause: ConnectionError: refused") as caught:
            await plan.prepare()
        assert isinstance(caught.value.__cause__, ConnectionError)
    async with TaskScope(container, "t", 5) as scope:
        assert (await plan.resolve(scope)).pool.ready
    assert len(attempts) == 3


async def test_all_who_wait_for_one_that_fails_hear_of_it():
    gate = Gate()

    async def refuse() -> None:
        await gate()
        raise ConnectionError("refused")

    _, provider, root = pool_and_root(refuse, "provides")
    container = bare_container(provider, root)
    plan = plan_for(container, root)
    waiting = [asyncio.create_task(plan.prepare()) for _ in range(100)]
    await gate.reached.wait()
    gate.open.set()
    failures = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(failure) for failure in failures} == {ComponentCreationError}
    assert gate.came == 1


async def test_one_who_is_cancelled_while_waiting_stops_it_for_nobody_else():
    gate = Gate()
    _, provider, root = pool_and_root(gate, "configure")
    plan = plan_for(bare_container(provider, root), root)
    first, second = asyncio.create_task(plan.prepare()), asyncio.create_task(plan.prepare())
    await gate.reached.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    gate.open.set()
    await second
    assert gate.came == 1


async def test_what_was_made_for_one_that_fails_is_closed():
    closed = []

    @component(lazy=True)
    class Pool:
        async def __ainit__(self) -> None:
            self.connections = 3

        @configure
        async def check(self) -> None:
            raise ConnectionError("refused")

        @cleanup
        async def close(self) -> None:
            closed.append(self.connections)

    @component(scope="prototype")
    class Root:
        def __init__(self, pool: Pool) -> None: ...

    with pytest.raises(ComponentCreationError, match="refused"):
        await planned(bare_container(Pool, Root), Root)
    assert closed == [3]


@pytest.mark.parametrize("way", ["ainit", "configure", "provides"])
async def test_the_proxies_that_eager_singletons_hold_work_afterwards(way):
    async def gate() -> None: ...

    pool, provider, root = pool_and_root(gate, way)

    class Eager:
        def __init__(self, pool: pool) -> None:  # type: ignore[valid-type]
            self.pool = pool

    container = bare_container(provider, component(Eager), root)
    eager = container.get(Eager)
    assert unwrap_proxy(eager.pool) is None
    made = (await planned(container, root)).pool
    assert eager.pool.ready
    assert unwrap_proxy(eager.pool) is made


async def test_dependencies_are_made_before_dependents():
    order = []

    @component(lazy=True)
    class Network:
        async def __ainit__(self) -> None:
            order.append("network")

    @component(lazy=True)
    class Pool:
        @configure
        async def connect(self, network: Network) -> None:
            assert unwrap_proxy(network) is not None
            order.append("pool")

    @provides(dict, lazy=True)
    async def cache(pool: Pool) -> dict:
        order.append("cache")
        return {}

    @component(scope="prototype")
    class Root:
        @configure
        def set_up(self, cache: dict) -> None: ...

        @cleanup
        def close(self, cache: dict, network: Network) -> None:
            order.append("close")

    # `dict` alone is no collection to pico-ioc: only dict[...] is.
    await planned(bare_container(Network, Pool, cache, Root), Root)
    assert order == ["network", "pool", "cache", "close"]


async def test_only_a_cleanup_method_may_need_one():
    @component(lazy=True)
    class Audit:
        def __init__(self) -> None:
            self.lines: list[str] = []

        async def __ainit__(self) -> None:
            self.ready = True

    @component(scope="prototype")
    class Root:
        @cleanup
        def close(self, audit: Audit) -> None:
            assert audit.ready
            audit.lines.append("closed")

    container = bare_container(Audit, Root)
    await planned(container, Root)
    assert unwrap_proxy(container.get(Audit)).lines == ["closed"]


async def test_one_that_somebody_asked_the_container_for_too_early_is_made_all_the_same():
    async def gate() -> None: ...

    pool, provider, root = pool_and_root(gate, "ainit")
    container = bare_container(provider, root)
    early = await container.aget(pool)
    assert inspect.iscoroutine(unwrap_proxy(early)), "pico-ioc takes the coroutine for the object"
    assert (await planned(container, root)).pool.ready
    assert early.ready


async def test_an_intercepted_one_keeps_its_proxy_and_the_container_can_close_it():
    calls = []

    @component(lazy=True)
    class Pool:
        async def __ainit__(self) -> None: ...

        @intercepted_by(Interceptor)
        def run(self) -> str:
            return "done"

        @cleanup
        async def close(self) -> None:
            calls.append("closed")

    @component(scope="prototype")
    class Root:
        def __init__(self, pool: Pool) -> None:
            self.pool = pool

    container = bare_container(Interceptor, Pool, Root)
    root = await planned(container, Root)
    assert root.pool is container.get(Pool)
    assert type(unwrap_proxy(root.pool)) is Pool
    assert root.pool.run() == "done"
    await container.ashutdown()
    assert calls == ["closed"]


async def test_what_no_task_can_reach_is_left_alone():
    made = []

    @component(lazy=True)
    class Pool:
        async def __ainit__(self) -> None:
            made.append(self)

    @component(scope="prototype")
    class Root: ...

    await planned(bare_container(Pool, Root), Root)
    assert made == []
