"""What the modules of pico-celery 0.2 had, as it was there: for code that imports it from where it stood.

`pico_celery.client`, `.decorators`, `.registrar` and `.factory` forward to it, with a warning. Tasks that are declared
with the decorators here are sent and run as all others. The three classes do what they did when they are made by hand,
as in a test. In a container the classes of `pico_celery` take their places.
"""

import asyncio
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from celery import Celery
from pico_ioc import MethodCtx, MethodInterceptor

from pico_celery_core import decorators
from pico_celery_core.settings import CelerySettings

PICO_CELERY_METHOD_META: Final = "_pico_celery_method_meta"
"""The attribute in which 0.2 kept what `@task` says, as a dict with `name` and `options`."""

PICO_CELERY_SENDER_META: Final = "_pico_celery_sender_meta"
"""The attribute in which 0.2 kept what `@send_task` says, as a dict with `name` and `options`."""


def task(name: str, **celery_options: Any) -> Callable[[Any], Any]:
    """Declare a handler, as `pico_celery.task` does, and keep the mark of 0.2 on it.

    Args:
        name: The task's name.
        **celery_options: Celery's task options.

    Returns:
        The decorator. It takes functions outside a class too, and only marks them.

    Raises:
        TypeError: If it stands on anything but an `async def` function.

    Example:
        >>> @task("greetings.hello")
        ... async def hello(name: str) -> str: ...
        >>> hello._pico_celery_method_meta
        {'name': 'greetings.hello', 'options': {}}
    """

    def declare(function: Any) -> Any:
        if not inspect.iscoroutinefunction(function):
            what = getattr(function, "__name__", repr(function))
            raise TypeError(f"@task decorator can only be applied to async methods, got: {what}")
        declared = decorators.task(name, **celery_options)(function) if _is_method(function) else function
        setattr(declared, PICO_CELERY_METHOD_META, {"name": name, "options": celery_options})
        return declared

    return declare


def send_task(name: str, **celery_options: Any) -> Callable[[Any], Any]:
    """Declare a stub, as `pico_celery.send_task` does, and keep the mark of 0.2 on it.

    Args:
        name: The name of the task to send.
        **celery_options: What Celery's `send_task` takes.

    Returns:
        The decorator. It takes functions outside a class too, and only marks them.

    Raises:
        TypeError: If it stands on anything but a function.

    Example:
        >>> class Greeter:
        ...     @send_task("greetings.hello", queue="high")
        ...     def hello(self, name: str): ...
        >>> Greeter.hello._pico_celery_sender_meta
        {'name': 'greetings.hello', 'options': {'queue': 'high'}}
    """

    def declare(function: Any) -> Any:
        if not inspect.isfunction(function):
            raise TypeError("send_task can only decorate methods or functions")
        stub: Any = decorators.send_task(name, **celery_options)(function) if _is_method(function) else function
        setattr(stub, PICO_CELERY_SENDER_META, {"name": name, "options": dict(celery_options)})
        return stub

    return declare


def _is_method(function: Any) -> bool:
    return next(iter(inspect.signature(function).parameters), None) == "self"


class CeleryClientInterceptor(MethodInterceptor):
    """Sends the task of a stub that `send_task` of this module has marked.

    Args:
        celery_app: The app to send with.
    """

    def __init__(self, celery_app: Celery) -> None:
        self._celery = celery_app

    def invoke(self, ctx: MethodCtx, call_next: Callable[[MethodCtx], Any]) -> Any:
        """Send the task that the called method stands for.

        Args:
            ctx: The call.
            call_next: What to do where the method is no stub.

        Returns:
            What Celery's `send_task` returns.
        """
        meta = getattr(getattr(ctx.cls, ctx.name, None), PICO_CELERY_SENDER_META, None)
        if not meta:
            return call_next(ctx)
        return self._celery.send_task(meta["name"], args=ctx.args, kwargs=ctx.kwargs, **meta["options"])


class CeleryFactory:
    """Makes an app from settings."""

    def create_celery_app(self, settings: CelerySettings) -> Celery:
        """Make the app.

        Args:
            settings: Its settings.
        """
        app = Celery("pico_celery_tasks")
        app.conf.update(settings.as_celery())
        return app


class PicoTaskRegistrar:
    """Registers the `@task` methods of a container's components as tasks that run each in a loop of its own.

    Args:
        container: Where components come from.
        celery_app: The app that gets the tasks.
    """

    def __init__(self, container: Any, celery_app: Celery) -> None:
        self._container = container
        self._celery_app = celery_app

    def register_tasks(self) -> None:
        """Register all tasks."""
        # The published tests of 0.2 have a container that is nothing but these two attributes of pico-ioc's.
        metadata = getattr(getattr(self._container, "_locator", None), "_metadata", None)
        providers = metadata.values() if isinstance(metadata, dict) else ()
        for cls in filter(inspect.isclass, (getattr(provider, "concrete_class", None) for provider in providers)):
            for name, method in inspect.getmembers(cls, inspect.isfunction):
                meta = getattr(method, PICO_CELERY_METHOD_META, None)
                if meta:
                    run = self._create_task_wrapper(cls, name, self._container)
                    self._celery_app.task(name=meta["name"], **{"shared": False, **meta["options"]})(run)

    def _create_task_wrapper(self, component_cls: type, method_name: str, container: Any) -> Callable[..., Any]:
        async def execute(*args: Any, **kwargs: Any) -> Any:
            try:
                component = await container.aget(component_cls)
            except Exception as error:
                where = f"component {component_cls.__name__} for Celery task method {method_name}()"
                raise RuntimeError(f"Failed to resolve {where}: {error}") from error
            return await getattr(component, method_name)(*args, **kwargs)

        def run(*args: Any, **kwargs: Any) -> Any:
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                return asyncio.run(execute(*args, **kwargs))
            with ThreadPoolExecutor(1) as thread:
                return thread.submit(asyncio.run, execute(*args, **kwargs)).result()

        return run
