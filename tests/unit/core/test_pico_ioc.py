"""Each private part of pico-ioc that is used, held to what the container itself does."""

from dataclasses import dataclass
from typing import Annotated, Protocol, runtime_checkable

import pytest
from pico_ioc import (
    DependencyRequest,
    DictSource,
    PicoContainer,
    ProviderMetadata,
    analyze_callable_dependencies,
    cleanup,
    component,
    configuration,
    configure,
    configured,
    factory,
    intercepted_by,
    provides,
)

from pico_celery_core import _pico_ioc as access
from tests.unit.worker.containers import bare_container
from tests.unit.worker.graphs import Interceptor


class Base:
    pass


@runtime_checkable
class Closable(Protocol):
    def close(self) -> None: ...


@component(qualifiers=["red"])
class First(Base):
    pass


@component(primary=True, name="second")
class Second(Base):
    def close(self) -> None: ...


class Product:
    pass


@provides(Product, lazy=True)
def product(first: First) -> Product:
    return Product()


@component(lazy=True)
class Lazy(Base):
    pass


COMPONENTS = (First, Second, product, Lazy)
KEYS = [First, Second, Base, Closable, Product, Lazy, "second", "First", "product", int, "nothing"]


@pytest.fixture
def container() -> PicoContainer:
    return bare_container(*COMPONENTS)


@pytest.mark.parametrize("key", KEYS)
def test_provider_key_is_what_the_container_would_take(container, key):
    found = access.provider_key(container, key)
    if found is None:
        with pytest.raises(Exception, match="not found"):
            container.get(key)
    else:
        assert container.get(key) is container.get(found)


def test_a_key_that_cannot_be_hashed_has_no_provider(container):
    assert access.provider_key(container, Annotated[int, []]) is None


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("name", ["other", "second", "First"])
def test_candidates_are_what_the_container_would_try(container, key, name):
    dependency = DependencyRequest(parameter_name=name, key=key, is_optional=True)
    wanted = container._resolve_args((dependency,)).get(name)
    found = access.candidates(container, dependency)
    assert (container.get(found[0]) if found else None) is wanted


@pytest.mark.parametrize("qualifier", [None, "red", "blue"])
@pytest.mark.parametrize("key_type", [str, type, int])
def test_collected_and_dict_keys_are_the_containers(container, qualifier, key_type):
    as_list = DependencyRequest("wanted", Base, is_list=True, qualifier=qualifier)
    keys = access.collected(container, as_list)
    assert [container.get(key) for key in keys] == container._resolve_args((as_list,))["wanted"]
    as_dict = DependencyRequest("wanted", Base, is_dict=True, qualifier=qualifier, dict_key_type=key_type)
    names = access.dict_keys(container, as_dict, keys)
    found = {name: container.get(key) for name, key in zip(names, keys, strict=True) if name is not None}
    assert found == container._resolve_args((as_dict,))["wanted"]


def test_the_recipe_is_what_the_container_calls():
    class Parts:
        made = 0

        def __init__(self, second: Second) -> None:
            Parts.made += 1

        @provides(list, scope="prototype")
        def method(self, first: First) -> list:
            return [first]

        @provides(dict, scope="prototype")
        @staticmethod
        def static(first: First) -> dict:
            return {"first": first}

    @component(scope="prototype")
    class Fallback:
        def __init__(self, first: First) -> None: ...

    missing = component(on_missing_selector=Closable, scope="prototype")(type("Missing", (), {}))
    container = bare_container(First, Second, product, factory(Parts), Fallback, missing)

    first = analyze_callable_dependencies(lambda first: None)
    recipe = access.recipe(container, Fallback)
    assert recipe is not None
    assert (recipe.function, [d.key for d in recipe.dependencies], recipe.factory) == (Fallback, [First], None)

    recipe = access.recipe(container, Product)
    assert recipe is not None
    assert (recipe.function, [d.key for d in recipe.dependencies]) == (product, [First])

    recipe = access.recipe(container, dict)
    assert recipe is not None
    assert recipe.function(container.get(First)) == container.get(dict)

    recipe = access.recipe(container, list)
    assert recipe is not None
    assert recipe.factory is not None
    assert (recipe.method, recipe.factory.function) == ("method", Parts)
    assert [d.key for d in recipe.factory.dependencies] == [Second]
    for count in (1, 2):
        container.get(list)
        assert count == Parts.made, "the container makes a factory for each call"
    assert first[0].parameter_name == "first"


def test_a_default_for_what_is_missing_has_a_recipe():
    class Missing:
        pass

    @component(on_missing_selector=Missing)
    class Default(Missing):
        pass

    recipe = access.recipe(bare_container(Default), Missing)
    assert recipe is not None
    assert recipe.function is Default


def test_of_two_providers_of_one_key_the_recipe_is_the_winners():
    @component(name="a longer name wins")
    class Winner:
        pass

    @provides(Product, name="x")
    def loser() -> Product:
        raise AssertionError

    @provides(Product, name="longer")
    def winner() -> Product:
        return Product()

    for functions in ([loser, winner], [winner, loser]):
        container = bare_container(*functions)
        recipe = access.recipe(container, Product)
        assert recipe is not None
        assert recipe.function is winner
        assert isinstance(container.get(Product), Product)


@pytest.mark.parametrize("lazy", [False, True])
def test_an_override_has_no_recipe_and_what_was_given_is_known(lazy):
    part = component(lazy=lazy, scope="prototype")(type("Part", (), {}))
    given = Product()
    container = bare_container(part, overrides={part: given})
    assert access.recipe(container, part) is None
    assert access.override_of(container, part) is given
    assert access.provider(container, part)() is given
    container = bare_container(part, overrides={part: Product})
    assert access.override_of(container, part) is Product
    assert type(access.provider(container, part)()) is Product
    assert access.override_of(bare_container(part), part) is None


def test_a_custom_scanners_provider_has_no_recipe():
    class Scanner:
        def should_scan(self, obj: object) -> bool:
            return obj is First

        def scan(self, obj: object):
            metadata = ProviderMetadata(First, First, First, None, None, set(), False, False, "component", None)
            return First, First, metadata

    container = bare_container(First, custom_scanners=[Scanner()])
    assert access.recipe(container, First) is None
    assert access.override_of(container, First) is None
    assert type(access.provider(container, First)()) is First


def test_a_configured_class_has_no_recipe():
    @configured(prefix="part", mapping="tree")
    @dataclass
    class Part:
        size: int = 1

    container = bare_container(Part, config=configuration(DictSource({"part": {"size": 3}})))
    assert access.recipe(container, Part) is None
    assert access.provider(container, Part)() == container.get(Part) == Part(3)


def test_observers_are_seen(container):
    class Observer:
        def on_resolve(self, key, took_ms): ...

        def on_cache_hit(self, key): ...

    assert not access.is_observed(container)
    assert access.is_observed(bare_container(*COMPONENTS, observers=[Observer()]))


def test_arguments_are_what_the_container_passes_to_a_cleanup_method():
    got = []

    @component
    class Closing:
        @cleanup
        def close(self, first: First, number: int = 3) -> None:
            got.append((first, number))

    container = bare_container(First, Closing)
    dependencies = analyze_callable_dependencies(container.get(Closing).close)
    arguments = access.arguments(container, dependencies)
    container.cleanup_all()
    assert got == [(arguments["first"], 3)]


def test_task_instances_are_the_containers_own():
    @component(scope="task")
    class Unit:
        pass

    container = bare_container(Unit)
    with container.scope("task", 1):
        store = access.task_instances(container)
        unit = container.get(Unit)
        assert store.get(Unit) is unit
        store.put(Unit, "another")
        assert container.get(Unit) == "another"
        assert access.task_scope_instances(container, 1) == ["another"]
        access.forget_task_scope(container, 1)
        assert access.task_scope_instances(container, 1) == []
        assert container.get(Unit) not in (unit, "another")
    assert access.task_scope_instances(container, 2) == []


def test_without_an_execution_there_is_no_task_scope():
    with pytest.raises(Exception, match="No active scope ID"):
        access.task_instances(bare_container())


def test_singletons_come_in_order_of_creation(container):
    made = access.singletons(container)
    assert [type(access.unwrap_proxy(one)) for one in made if access.unwrap_proxy(one) is not None][:2] == [
        First,
        Second,
    ]
    assert any(one is container.get(First) for one in made)


def test_behind_a_lazy_proxy_is_what_it_makes_and_telling_does_not_wake_it(container):
    proxy = container.get(Lazy)
    assert access.isinstance_of_proxy(proxy)
    assert access.unwrap_proxy(proxy) is None
    assert isinstance(proxy, Lazy)
    assert type(access.unwrap_proxy(proxy)) is Lazy
    first = container.get(First)
    assert not access.isinstance_of_proxy(first)
    assert access.unwrap_proxy(first) is first


def test_what_is_put_behind_a_lazy_proxy_is_its_object(container):
    proxy, lazy = container.get(Lazy), Lazy()
    lazy.size = 4
    access.put_behind(proxy, lazy)
    assert proxy.size == 4
    assert proxy._get_real_object() is lazy


def test_is_intercepted_tells_whether_the_container_makes_a_proxy():
    class Plain:
        def run(self) -> None: ...

    class Intercepted:
        @intercepted_by(Interceptor)
        def run(self) -> None: ...

    class Inherits(Intercepted): ...

    class Static:
        run = staticmethod(intercepted_by(Interceptor)(lambda: None))

    classes = [component(cls) for cls in (Plain, Intercepted, Inherits, Static)]
    container = bare_container(Interceptor, *classes)
    for cls in classes:
        assert access.is_intercepted(cls) == access.isinstance_of_proxy(container.get(cls)), cls


def test_marked_methods_are_those_the_container_calls_in_its_order():
    calls = []

    class Parent:
        @configure
        def z(self) -> None:
            calls.append("z")

        @configure
        def overridden(self) -> None: ...

    @component(scope="prototype")
    class Child(Parent):
        @configure
        def a(self) -> None:
            calls.append("a")

        def overridden(self) -> None: ...

        @property
        def trap(self) -> int:
            raise AssertionError

    bare_container(Child).get(Child)
    assert list(access.marked_methods(Child, "configure")) == calls == ["a", "z"]


def test_singletons_have_the_keys_that_the_container_knows_them_by(container):
    found = access.singletons_by_key(container)
    assert list(found.values()) == access.singletons(container)
    assert all(container.get(key) is instance for key, instance in found.items())


async def test_what_is_cleaned_up_is_not_cleaned_up_by_the_container():
    closed = []

    @component
    class Closing:
        @cleanup
        def close(self) -> None:
            closed.append(1)

    @component(lazy=True)
    class Sleeping:
        def __init__(self) -> None:
            closed.append("made")

    container = bare_container(Closing, Sleeping)
    sleeping = container.get(Sleeping)
    with access.without_cleanup_targets(container):
        await container.cleanup_all_async()
    assert closed == []
    assert container.get(Sleeping) is sleeping
    container.cleanup_all()
    assert closed == [1, "made"]


def test_collecting_what_is_no_class_collects_nothing(container):
    dependency = DependencyRequest("wanted", "Base", is_list=True)
    assert access.collected(container, dependency) == container._resolve_args((dependency,))["wanted"] == []
