"""The end of a container: its singletons are cleaned up, each before those it depends on.

pico-ioc's own `ashutdown` cleans up in the order of creation, stops at the first hook that fails, waits for one that
hangs, does not know `__aclose__`, and makes the lazy singletons that nobody has used only to clean them up. So it is
called when the singletons are cleaned up already, and does not see them.
"""

from collections.abc import Iterator
from typing import Any

from pico_ioc import PicoContainer

from pico_celery_worker import container_access as access
from pico_celery_worker.cleanup import clean_up
from pico_celery_worker.singletons import AsyncSingletons


async def close(container: PicoContainer, timeout: float) -> None:
    """Clean up a container's singletons, and shut it down.

    Args:
        container: What to close. Called on the loop that its components live on.
        timeout: How long each hook may take, in seconds.
    """
    try:
        await clean_up(container, list(_made(container))[::-1], "the container", timeout)
    finally:
        with access.singletons_hidden(container):
            await container.ashutdown()


def _made(container: PicoContainer) -> Iterator[Any]:
    """Yield the singletons that were made, each after those it depends on."""
    singletons = access.singletons_by_key(container)
    seen: set[int] = set()
    for key in AsyncSingletons(container).in_order(singletons):
        instance = access.behind(singletons.get(key))
        if instance is not None and id(instance) not in seen:
            seen.add(id(instance))
            yield instance
