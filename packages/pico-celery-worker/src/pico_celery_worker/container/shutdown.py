"""The end of a container: its singletons are cleaned up, each before those it depends on.

pico-ioc's own `ashutdown` cleans up in the order of creation, stops at the first hook that fails, waits for one that
hangs, does not know `__aclose__`, and makes unused lazy singletons only to clean them up. So it is
called when all is cleaned up already, and does that no more.
"""

import itertools
import logging
from collections.abc import Iterator
from typing import Any

from pico_ioc import PicoContainer

from pico_celery_core import _pico_ioc as access
from pico_celery_core.errors import ContainerClosedError
from pico_celery_worker.container.cleanup import clean_up, hooks_of
from pico_celery_worker.container.singletons import AsyncSingletons

logger = logging.getLogger(__name__)


async def close(container: PicoContainer, timeout: float) -> None:
    """Clean up a container's singletons, and shut it down.

    Args:
        container: What to close. Called on the loop that its components live on.
        timeout: How long each hook may take, in seconds.
    """
    try:
        made = list(_made(container))[::-1]
        await clean_up(container, itertools.chain(_factories(container), made), "the container", timeout)
    finally:
        with access.without_cleanup_targets(container):
            await container.ashutdown()


def refuse_closed(container: PicoContainer, runner: str) -> None:
    """Check that a container was not closed.

    Args:
        container: The container.
        runner: What is to run its tasks.

    Raises:
        ContainerClosedError: If it was.
    """
    if container.container_id not in PicoContainer.all_containers():
        raise ContainerClosedError(runner)


def _factories(container: PicoContainer) -> Iterator[Any]:
    """Yield the factories that made singletons and have hooks, which may want to know what they made."""
    seen: set[Any] = set()
    for key in access.singletons_by_key(container):
        recipe = access.recipe(container, key)
        factory: Any = recipe and recipe.factory
        if not factory or factory.function in seen or not hooks_of(factory.function):
            continue
        seen.add(factory.function)
        try:
            yield factory.function(**access.arguments(container, factory.dependencies))
        except Exception:
            logger.exception("Factory %s cannot be made, and is not cleaned up", factory.function.__qualname__)


def _made(container: PicoContainer) -> Iterator[Any]:
    """Yield the singletons that were made, each after those it depends on."""
    singletons = access.singletons_by_key(container)
    seen: set[int] = set()
    for key in AsyncSingletons(container).in_order(singletons):
        instance = access.unwrap_proxy(singletons.get(key))
        if instance is not None and id(instance) not in seen:
            seen.add(id(instance))
            yield instance
