"""A plan and the container give the same result; where the container cannot, a plan does right."""

import asyncio
from typing import Any

from hypothesis import HealthCheck, assume, event, example, given, settings
from pico_ioc import PicoContainer, PicoError, ProviderNotFoundError

from pico_celery_core import _pico_ioc as access
from pico_celery_worker.execution.scope import TaskScope
from tests.unit.worker.containers import bare_container, plan_for
from tests.unit.worker.graphs import Edge, Node, async_graphs, declare, described, graphs, overrides


class Observer:
    def on_resolve(self, key: Any, took_ms: float) -> None: ...

    def on_cache_hit(self, key: Any) -> None: ...


def made(graph: list[Node], **options: Any) -> tuple[PicoContainer, list[type]]:
    classes, declared = declare(graph)
    try:
        return bare_container(*declared, overrides=overrides(graph, classes), **options), classes
    except (PicoError, ValueError):  # a singleton that fails
        assume(False)
        raise


def innermost(error: BaseException) -> BaseException:
    """The failure that all the wrapping is about."""
    while (cause := getattr(error, "cause", None) or error.__cause__) is not None:
        error = cause
    return error


async def by_container(container: PicoContainer, key: Any) -> Any:
    with container.scope(access.TASK_SCOPE, object(), cleanup=True):
        return described(container, await container.aget(key))


async def by_plan(container: PicoContainer, key: Any) -> Any:
    async with TaskScope(container, "tests.task[1]", 5) as scope:
        return described(container, await plan_for(container, key).resolve(scope))


def outcome(result: Any) -> Any:
    try:
        return asyncio.run(result)
    except (PicoError, ValueError) as error:  # aget leaves what a root's configure raises as it is
        return innermost(error)


def is_same(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, ProviderNotFoundError):
        # Where a name stands in for a type that nobody provides and its component fails, the plan says why.
        return isinstance(ours, (ProviderNotFoundError, ValueError))
    if isinstance(theirs, Exception):
        return type(ours) is type(theirs) and ours.args == theirs.args
    return ours == theirs


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(graphs())
@example([Node(base=0), Node(base=0, primary=True), Node(edges=(Edge("base"), Edge("list"), Edge("dict")))])
@example([Node(fails="init"), Node(edges=(Edge("optional"), Edge("defaulted")))])
@example([Node(scope="task"), Node(edges=(Edge("type"),)), Node(edges=(Edge("type", 0), Edge("type", 1)))])
def test_plan_and_container_give_the_same(graph):
    container, classes = made(graph)
    wanted = outcome(by_container(container, classes[-1]))
    event(f"{type(wanted).__name__}")
    ours = outcome(by_plan(container, classes[-1]))
    assert is_same(ours, wanted), f"{ours}\n{wanted}"
    assert not container._caches._by_scope.get(access.TASK_SCOPE)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(graphs())
def test_with_observers_the_container_does_it(graph):
    container, classes = made(graph, observers=[Observer()])
    wanted = outcome(by_container(container, classes[-1]))
    ours = outcome(by_plan(container, classes[-1]))
    assert is_same(ours, wanted), f"{ours}\n{wanted}"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(async_graphs())
@example([Node(lazy=True, scope="singleton", awaits=frozenset({"__ainit__"})), Node(edges=(Edge("type"),))])
def test_whatever_is_async_at_any_depth_is_awaited_once_and_what_was_made_is_closed_once(graph):
    container, classes = made(graph)

    async def twice() -> None:
        model = Model(graph)
        plan = plan_for(container, classes[-1])
        for number in range(2):
            execution: dict[int, Any] = {}
            async with TaskScope(container, f"tests.task[{number}]", 5) as scope:
                model.check(await plan.resolve(scope), len(graph) - 1, execution)
            for real in model.made:
                closes = real.node.hooked and real.node.scope != "singleton"
                assert real.events.count("close") == (1 if closes else 0)

    asyncio.run(twice())


class Model:
    """What a graph should become, worked out from the graph alone."""

    def __init__(self, graph: list[Node]) -> None:
        self.graph = graph
        self.singletons: dict[int, Any] = {}
        self.made: list[Any] = []

    def check(self, value: Any, index: int, execution: dict[int, Any]) -> None:
        """Check what stands in the place of a component, and all below."""
        node = self.graph[index]
        real = value._get_real_object() if access.isinstance_of_proxy(value) else value
        assert real.index == index
        assert real.is_complete, real.events
        shared = {"singleton": self.singletons, "task": execution}.get(node.scope)
        if shared is not None:
            if index in shared:
                assert shared[index] is real, "one for all"
                return
            shared[index] = real
        else:
            assert not any(real is other for other in self.made), "one for each"
        self.made.append(real)
        if node.awaits or node.scope != "singleton":
            assert real.unready == [], "dependencies first"
        wanted = {_parameter(edge): edge.target for edge in node.edges}
        wanted |= {f"set_up_{_parameter(edge)}": edge.target for edge in node.configured_with}
        assert real.arguments.keys() == wanted.keys()
        for name, target in wanted.items():
            self.check(real.arguments[name], target, execution)


def _parameter(edge: Edge) -> str:
    return f"{edge.style.replace('type', 'typed')}_{edge.target}"
