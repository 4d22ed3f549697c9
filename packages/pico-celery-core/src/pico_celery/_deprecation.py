"""Forwards the names of modules that pico-celery 0.2 had, with a warning."""

import warnings
from collections.abc import Callable
from typing import Any

from pico_celery._forwarding import forward, homes_of


def forward_deprecated(name: str, file: str) -> Callable[[str], Any]:
    """Make the `__getattr__` of such a module.

    It keeps no name in the module: a container that scans this package shall find each component in one place only.

    Args:
        name: The module's `__name__`.
        file: The module's `__file__`. The stub file beside it lists the names.

    Returns:
        The function. It warns each time that a name is asked for.
    """
    homes = homes_of(file)
    find = forward({"__name__": name}, homes)

    def getattribute(attribute: str) -> Any:
        value = find(attribute)
        use = "pico_celery_core.task_spec() or send_spec()" if attribute.isupper() else f"pico_celery.{attribute}"
        text = f"{name}.{attribute} is deprecated since pico-celery 0.3 and will be removed in 1.0: use {use}"
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        return value

    return getattribute
