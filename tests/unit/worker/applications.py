"""Applications for tests, of components that stand in the test."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from celery import Celery
from pico_ioc import DictSource, PicoContainer, configuration, init


def application(
    *components: Any, settings: Mapping[str, Any] | None = None, overrides: dict[Any, Any] | None = None
) -> PicoContainer:
    """Make a container of the given components, the packages, and a Celery app without a broker.

    Args:
        *components: Classes and `@provides` functions.
        settings: What stands under the prefix `celery`.
        overrides: What pico-ioc's `init` takes as such.
    """
    module = ModuleType("application")
    vars(module).update({component.__name__: component for component in components})
    defaults = {"broker_url": "amqp://nowhere", "backend_url": None}
    return init(
        modules=["pico_celery", module],
        config=configuration(DictSource({"celery": {**defaults, **(settings or {})}})),
        overrides=overrides or {},
    )


def app_of(*components: Any, **settings: Any) -> Celery:
    """Make an application and return its Celery app."""
    app: Celery = application(*components, settings=settings).get(Celery)
    return app
