"""Clean-up hooks: the `@cleanup` methods of an instance, and its `__aclose__`."""

import asyncio
import inspect
import logging
import weakref
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from celery.exceptions import TimeLimitExceeded
from pico_ioc import DependencyRequest, PicoContainer, analyze_callable_dependencies

from pico_celery_core import _pico_ioc as access
from pico_celery_worker.loop.cancellation import CancelScope
from pico_celery_worker.loop.log_fields import fields_of_label

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Hook:
    """A method that cleans up an instance.

    Args:
        name: The method's name.
        dependencies: What the container calls it with.
    """

    name: str
    dependencies: tuple[DependencyRequest, ...] = ()

    def call(self, container: PicoContainer, instance: Any) -> Any:
        """Call the hook; what it returns may have to be awaited."""
        arguments = access.arguments(container, self.dependencies) if self.dependencies else {}
        return getattr(instance, self.name)(**arguments)


async def clean_up(container: PicoContainer, instances: Iterable[Any], label: str, timeout: float) -> None:
    """Call the hooks of instances, all of them, whatever goes wrong in one.

    Args:
        container: Where the hooks' dependencies come from.
        instances: What to clean up, in this order.
        label: For whom, in the log.
        timeout: How long each hook may take, in seconds.

    Raises:
        asyncio.CancelledError: If the running task was cancelled meanwhile; the hooks have run all the same.
    """
    interrupted: BaseException | None = None
    for instance in instances:
        for hook in hooks_of(type(instance)):
            try:
                await _call(container, instance, hook, label, timeout)
            except BaseException as error:  # noqa: BLE001  # the other hooks come first
                interrupted = interrupted or error
    if interrupted is not None:
        raise interrupted


async def _call(container: PicoContainer, instance: Any, hook: Hook, label: str, timeout: float) -> None:
    where = f"{type(instance).__qualname__}.{hook.name} of {label}"
    task = asyncio.current_task()
    cancelled_before = task.cancelling() if task else 0
    try:
        result = hook.call(container, instance)
        if hasattr(result, "__await__"):
            await CancelScope(f"clean-up {where}", timeout).guard(_waiting(result), hard_limit=timeout)
    except (Exception, SystemExit, KeyboardInterrupt, asyncio.CancelledError) as error:
        if task and task.cancelling() > cancelled_before:
            raise asyncio.CancelledError from None
        if isinstance(error, TimeLimitExceeded):
            fields = fields_of_label("clean-up-timed-out", label)
            logger.error("Clean-up %s was cut off after %s s", where, timeout, extra=fields)
        else:
            logger.exception("Clean-up %s failed", where, extra=fields_of_label("clean-up-failed", label))


async def _waiting(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def hooks_of(cls: type) -> tuple[Hook, ...]:
    """Return what cleans up an instance of a class, in the order to call it."""
    hooks = _hooks.get(cls)
    if hooks is None:
        marked = {name: method_dependencies(cls, name) for name in access.marked_methods(cls, "cleanup")}
        if callable(getattr(cls, "__aclose__", None)):
            marked.setdefault("__aclose__", ())
        hooks = _hooks[cls] = tuple(Hook(name, dependencies) for name, dependencies in marked.items())
    return hooks


def method_dependencies(cls: type, name: str) -> tuple[DependencyRequest, ...]:
    """Return what the container calls a method of an instance with."""
    bound = inspect.getattr_static(cls, name).__get__(_DUMMY_SELF, cls)
    dependencies: tuple[DependencyRequest, ...] = analyze_callable_dependencies(bound)
    return dependencies


# Some classes are made for one instance alone, as those of mocks.
_hooks: Final[weakref.WeakKeyDictionary[type, tuple[Hook, ...]]] = weakref.WeakKeyDictionary()

_DUMMY_SELF: Final = object()
