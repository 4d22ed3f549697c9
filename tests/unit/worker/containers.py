"""Containers of a few components, and plans."""

from types import ModuleType
from typing import Any

from pico_ioc import PicoContainer, init

from pico_celery_core._pico_ioc import TASK_SCOPE
from pico_celery_worker.container.plan import Plan
from pico_celery_worker.container.singletons import AsyncSingletons
from pico_celery_worker.execution.scope import TaskScope


def module_of(*components: Any) -> ModuleType:
    """Return a module that holds the given components."""
    module = ModuleType("application")
    vars(module).update({component.__name__: component for component in components})
    return module


def bare_container(*components: Any, **options: Any) -> PicoContainer:
    """Make a container of the given components alone."""
    return init(modules=[module_of(*components)], custom_scopes=[TASK_SCOPE], **options)


def plan_for(container: PicoContainer, key: Any, singletons: AsyncSingletons | None = None) -> Plan:
    return Plan(container, key, singletons or AsyncSingletons(container))


async def planned(container: PicoContainer, key: Any) -> Any:
    """Resolve a component by a plan, in a scope of its own that ends at once."""
    async with TaskScope(container, "tests.task[1]", 5) as scope:
        return await plan_for(container, key).resolve(scope)
