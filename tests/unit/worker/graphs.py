"""Generated component graphs: containers of random shape, and what they make, put into words that can be compared."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Optional, Protocol, runtime_checkable

from hypothesis import strategies as st
from pico_ioc import (
    MethodCtx,
    PicoContainer,
    Qualifier,
    cleanup,
    component,
    configure,
    factory,
    intercepted_by,
    provides,
)

from pico_celery_core import _pico_ioc as access

SCOPES = ("singleton", "prototype", "task")


class Shape:
    """A base class that components may have."""


@runtime_checkable
class Speaker(Protocol):
    """A protocol that components may fulfil."""

    def speak(self) -> str: ...


class Unknown:
    """A type that nobody provides."""


BASES = (Shape, Speaker)


@component
class Interceptor:
    def invoke(self, ctx: MethodCtx, call_next: Callable[[MethodCtx], Any]) -> Any:
        return call_next(ctx)


@dataclass(frozen=True)
class Edge:
    """A dependency: on the component `target`, asked for in some style."""

    style: str
    target: int = 0
    base: int = 0
    qualified: bool = False


@dataclass(frozen=True)
class Node:
    """A component."""

    kind: str = "class"
    scope: str = "prototype"
    edges: tuple[Edge, ...] = ()
    configured_with: tuple[Edge, ...] = ()
    base: int | None = None
    primary: bool = False
    qualified: bool = False
    lazy: bool = False
    intercepted: bool = False
    override: str = ""
    fails: str = ""
    hooked: bool = False
    awaits: frozenset[str] = frozenset()

    @property
    def has_configure(self) -> bool:
        return bool(self.configured_with) or "configure" in self.awaits or self.fails == "configure"


def nodes(leaves: int, index: int) -> st.SearchStrategy[Node]:
    """Strategy for the component at a place of the graph. Only the leaves have bases, only others ask for them."""
    is_leaf = index < leaves
    targets = st.integers(0, index - 1) if index else st.nothing()
    direct = st.builds(Edge, st.sampled_from(["type", "optional", "name", "misnamed", "defaulted"]), targets)
    absent = st.builds(Edge, st.just("absent"))
    collecting = st.builds(
        Edge,
        st.sampled_from(["base", "list", "dict", "dict of types"]),
        st.just(0),
        st.sampled_from([0, 1]),
        st.booleans(),
    )
    edges = st.lists(
        st.one_of(absent, *([direct] * 3 if index else []), *([] if is_leaf else [collecting])), max_size=3
    )
    unique = edges.map(lambda found: tuple({(e.style, e.target, e.base): e for e in found}.values()))
    return st.builds(
        Node,
        kind=st.sampled_from(["class", "class", "function", "factory", "static"]),
        scope=st.sampled_from(SCOPES),
        edges=unique,
        configured_with=st.one_of(st.just(()), unique),
        base=st.sampled_from([None, 0, 1]) if is_leaf else st.none(),
        primary=st.booleans(),
        qualified=st.booleans(),
        lazy=st.sampled_from([False, False, False, True]),
        intercepted=st.sampled_from([False, False, True]),
        override=st.sampled_from(["", "", "", "", "instance", "maker"]),
        fails=st.sampled_from(["", "", "", "", "", "", "init", "configure"]),
        hooked=st.booleans(),
    )


@st.composite
def graphs(draw: st.DrawFn) -> list[Node]:
    """Strategy for whole graphs; the last component is the one to resolve."""
    leaves = draw(st.integers(1, 3))
    return [draw(nodes(leaves, index)) for index in range(leaves + draw(st.integers(1, 4)))]


def _name(index: int) -> str:
    return f"C{index}"


class Made:
    """What all generated components do: remember what they got, and what was done with them."""

    index: int
    node: Node

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments
        self.events = ["init"]
        self.unready = [name for name, value in arguments.items() if not is_ready(value)]
        if self.node.fails == "init":
            raise ValueError(self.index)

    @property
    def is_complete(self) -> bool:
        """Whether everything was done with it, and once."""
        ainit = ["__ainit__"] if self.node.kind == "class" and "__ainit__" in self.node.awaits else []
        return self.events == ["init", *ainit, *(["configure"] if self.node.has_configure else [])]


def is_ready(value: Any) -> bool:
    """Tell whether an argument, and each in a collection, is complete."""
    real = access.unwrap_proxy(value)
    if real is None:  # lazy: fine, unless it has to be awaited
        return value is None or not object.__getattribute__(value, "_component_key").node.awaits
    if isinstance(real, (list, dict)):
        return all(map(is_ready, real.values() if isinstance(real, dict) else real))
    return real.is_complete if isinstance(real, Made) else not inspect.isawaitable(real)


def parameter(edge: Edge, classes: list[type], graph: list[Node]) -> inspect.Parameter:
    """Write a dependency as a parameter."""
    kind, target = inspect.Parameter, edge.target
    wanted: Any = classes[target] if classes else None
    # What `@provides` makes goes by the name of the function.
    called = _name(target) if classes and graph[target].kind == "class" else f"make_{target}"
    base: Any = BASES[edge.base]
    element = Annotated[base, Qualifier("red")] if edge.qualified else base
    name, annotation, default = {
        "type": (f"typed_{target}", wanted, kind.empty),
        "optional": (f"optional_{target}", Optional[wanted], kind.empty),  # noqa: UP045  # wanted may be None
        "defaulted": (f"defaulted_{target}", wanted, None),
        "name": (called, kind.empty, kind.empty),
        "misnamed": (called, int, kind.empty),
        "absent": ("absent", Unknown, None),
        "base": (f"base_{edge.base}", base, None),
        "list": (f"list_{edge.base}", list[element], kind.empty),
        "dict": (f"dict_{edge.base}", dict[str, element], kind.empty),
        "dict of types": (f"types_{edge.base}", dict[type, element], kind.empty),
    }[edge.style]
    return kind(name, kind.KEYWORD_ONLY, annotation=annotation, default=default)


def signature(edges: tuple[Edge, ...], classes: list[type], graph: list[Node], *first: str) -> inspect.Signature:
    parameters = {p.name: p for p in (parameter(edge, classes, graph) for edge in edges)}
    own = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in first]
    return inspect.Signature([*own, *parameters.values()])


def declare(graph: list[Node]) -> tuple[list[type], list[Any]]:
    """Write a graph as classes and functions. Returns the keys, and what to put into a module."""
    classes: list[type] = []
    declared: list[Any] = [Interceptor]
    for index, node in enumerate(graph):
        cls = _class(index, node, classes, graph)
        declared.append(_declaration(index, node, cls, classes, graph))
        classes.append(cls)
    return classes, declared


def _class(index: int, node: Node, classes: list[type], graph: list[Node]) -> type:
    namespace: dict[str, Any] = {"index": index, "node": node}
    if node.kind == "class":

        def create(self: Any, **arguments: Any) -> None:
            Made.__init__(self, **arguments)

        vars(create)["__signature__"] = signature(node.edges, classes, graph, "self")
        namespace["__init__"] = create
    if "__ainit__" in node.awaits and node.kind == "class":

        async def create_async(self: Any) -> None:
            self.events.append("__ainit__")

        namespace["__ainit__"] = create_async
    if node.has_configure:
        namespace["set_up"] = configure(_set_up(node, classes, graph))
    if node.hooked:
        namespace["close"] = cleanup(lambda self: self.events.append("close"))
    if node.intercepted:
        namespace["run"] = intercepted_by(Interceptor)(lambda self: None)
    if node.base == 1:
        namespace["speak"] = lambda self: "hello"
    bases = (Made, Shape) if node.base == 0 else (Made,)
    return type(_name(index), bases, namespace)


def _set_up(node: Node, classes: list[type], graph: list[Node]) -> Any:
    def configured(self: Any, arguments: dict[str, Any]) -> None:
        self.arguments = {**self.arguments, **{f"set_up_{name}": value for name, value in arguments.items()}}
        self.events.append("configure")
        if node.fails == "configure":
            raise ValueError(self.index)

    def set_up(self: Any, **arguments: Any) -> None:
        configured(self, arguments)

    async def set_up_async(self: Any, **arguments: Any) -> None:
        configured(self, arguments)

    function: Any = set_up_async if "configure" in node.awaits else set_up
    function.__signature__ = signature(node.configured_with, classes, graph, "self")
    return function


def _declaration(index: int, node: Node, cls: type, classes: list[type], graph: list[Node]) -> Any:
    options = {
        "scope": node.scope,
        "lazy": node.lazy,
        "primary": node.primary,
        "qualifiers": ["red"] if node.qualified else [],
    }
    if node.kind == "class":
        return component(**options)(cls)

    def make(**arguments: Any) -> Any:
        return cls(**arguments)

    async def make_async(**arguments: Any) -> Any:
        return cls(**arguments)

    def make_method(self: Any, **arguments: Any) -> Any:
        return cls(**arguments)

    async def make_method_async(self: Any, **arguments: Any) -> Any:
        return cls(**arguments)

    is_async = "provides" in node.awaits
    if node.kind == "factory":
        function: Any = make_method_async if is_async else make_method
        owners = ["self"]
    else:
        function, owners = (make_async if is_async else make), []
    function.__name__ = f"make_{index}"
    function.__annotations__ = {"return": cls}
    function.__signature__ = signature(node.edges, classes, graph, *owners).replace(return_annotation=cls)
    provider = provides(cls, **options)(function)
    if node.kind == "function":
        return provider
    wrapped = staticmethod(provider) if node.kind == "static" else provider
    return factory(type(f"Factory{index}", (), {f"make_{index}": wrapped}))


def overrides(graph: list[Node], classes: list[type]) -> dict[Any, Any]:
    """Return what the graph's overrides replace."""
    found: dict[Any, Any] = {}
    for node, cls in zip(graph, classes, strict=True):
        if node.override:
            fake = type(f"Fake{cls.__name__}", (Made,), {"index": getattr(cls, "index"), "node": Node()})  # noqa: B009
            found[cls] = fake() if node.override == "instance" else fake
    return found


def described(container: PicoContainer, root: Any) -> Any:
    """Put into words what was made: classes, places, sharing, defaults, what was done with each."""
    _described(root, {}, {})  # wakes what is lazy
    made = [access.unwrap_proxy(instance) for instance in access.singletons(container)]
    return _described(root, {id(instance): type(instance).__name__ for instance in made}, {})


def _described(value: Any, singletons: dict[int, str], seen: dict[int, int]) -> Any:
    if isinstance(value, list):
        return [_described(item, singletons, seen) for item in value]
    if isinstance(value, dict):
        return {key: _described(item, singletons, seen) for key, item in value.items()}
    is_proxy = access.isinstance_of_proxy(value)
    real = value._get_real_object() if is_proxy else value
    if id(real) in seen:
        return "again", seen[id(real)]
    seen[id(real)] = len(seen)
    if not isinstance(real, Made):
        return type(real).__name__
    arguments = {name: _described(item, singletons, seen) for name, item in sorted(real.arguments.items())}
    events = tuple(event for event in real.events if event != "close")
    return type(real).__name__, is_proxy, events, id(real) if id(real) in singletons else "new", arguments


@st.composite
def async_graphs(draw: st.DrawFn) -> list[Node]:
    """Strategy for graphs in which anything may have to be awaited. What a singleton needs is a singleton too."""
    graph: list[Node] = []
    length = draw(st.integers(2, 6))
    while len(graph) < length:
        scope = draw(st.sampled_from(SCOPES))
        targets = [i for i, node in enumerate(graph) if scope != "singleton" or node.scope == "singleton"]
        edges = st.lists(st.sampled_from(targets), max_size=3, unique=True) if targets else st.just([])
        style = st.sampled_from(["type", "optional", "defaulted"])
        kind = draw(st.sampled_from(["class", "class", "function", "factory", "static"]))
        ways = {"configure"} | ({"__ainit__"} if kind == "class" else {"provides"})
        awaits = draw(st.frozensets(st.sampled_from(sorted(ways))))
        graph.append(
            Node(
                kind=kind,
                scope=scope,
                edges=tuple(Edge(draw(style), target) for target in draw(edges)),
                configured_with=tuple(Edge(draw(style), target) for target in draw(edges)),
                lazy=scope == "singleton" and (bool(awaits) or draw(st.booleans())),
                intercepted=draw(st.booleans()),
                hooked=draw(st.booleans()),
                awaits=awaits,
            )
        )
    return [*graph, Node(edges=tuple(Edge("type", index) for index in range(len(graph))))]
