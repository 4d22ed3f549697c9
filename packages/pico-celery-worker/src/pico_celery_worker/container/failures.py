"""Why a component could not be built: the cause, the phase, the path of dependencies to it, and what to try."""

from collections import deque
from typing import Any, Final

from pico_ioc import ComponentCreationError, PicoContainer, PicoError, ProviderNotFoundError

from pico_celery_core import _pico_ioc as access
from pico_celery_core.errors import ResolutionError
from pico_celery_worker.container.builders import InitializationError
from pico_celery_worker.container.handlers import Handler
from pico_celery_worker.container.singletons import needed_by

_UNKNOWN: Final = "…"


def resolution_error(container: PicoContainer, handler: Handler, error: PicoError) -> ResolutionError:
    """Say why a handler's component could not be built.

    Args:
        container: The container that was to build it.
        handler: Whose component was asked for.
        error: What resolving it has raised.
    """
    path = [_name(key) for key in _path(container, handler.key, error)]
    last = innermost(error)
    cause = last.cause if isinstance(last, ComponentCreationError) else last
    failed = path[-1]
    if isinstance(cause, ProviderNotFoundError):
        problem, phase = str(cause), f"resolving {failed}"
        hint = f"Try to provide {failed} with @component or @provides, or give the parameter a default."
    else:
        problem = f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__
        method = f" with {last.method}" if isinstance(last, InitializationError) else ""
        phase = f"initializing {failed}{method}" if method else f"constructing {failed}"
        hint = (
            f"Try to get {failed} alone, with `await container.aget({failed})`; if the cause passes by itself, let the "
            "task retry with autoretry_for=(ResolutionError,)."
        )
    name, component = handler.spec.name, handler.cls.__qualname__
    return ResolutionError(name, component, problem.rstrip("."), phase, " → ".join(path), hint)


def innermost(error: PicoError) -> PicoError:
    """Return the container's error that has the application's for its cause; the others only lead to it."""
    while isinstance(error, ComponentCreationError) and isinstance(error.cause, ComponentCreationError):
        error = error.cause
    return error


def _path(container: PicoContainer, root: Any, error: BaseException) -> list[Any]:
    """Return the keys from the root to what failed: those of the nested errors, and what leads to the first of them."""
    keys: list[Any] = []
    while isinstance(error, ComponentCreationError):
        keys.append(error.key)
        error = error.cause
    if isinstance(error, ProviderNotFoundError):
        keys += [key for key in (error.origin, error.key) if key is not None]
    path = _route(container, access.provider_key(container, root) or root, keys[0] if keys else root)
    for key in keys[1:]:
        if key != path[-1]:
            path.append(key)
    return path


def _route(container: PicoContainer, start: Any, goal: Any) -> list[Any]:
    """Return the shortest path of dependencies from one component to another."""
    routes, seen = deque([[start]]), {start}
    while routes:
        route = routes.popleft()
        if route[-1] == goal:
            return route
        metadata = container.metadata_for(route[-1])
        for key in needed_by(container, metadata) if metadata is not None else ():
            if key not in seen:
                seen.add(key)
                routes.append([*route, key])
    return [start, _UNKNOWN, goal]


def _name(key: Any) -> str:
    return getattr(key, "__name__", str(key))
