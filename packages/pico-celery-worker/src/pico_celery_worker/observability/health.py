"""Whether a worker is ready: it has its singletons and its broker, does not stop, and its components are well."""

import asyncio
import inspect
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

from celery import bootsteps
from pico_ioc import PicoContainer

from pico_celery_core import _pico_ioc as access
from pico_celery_core.one_line import one_line
from pico_celery_worker.loop.blocking import run_blocking
from pico_celery_worker.observability.http import Response
from pico_celery_worker.pools import is_shutting_down

logger = logging.getLogger(__name__)

# How long the check of a component may take, in seconds: pico-actuator's own default.
_CHECK_TIMEOUT: Final = 5.0

_UP: Final = "UP"
_DOWN: Final = "DOWN"

# What pico-ioc's `@health` leaves on a method.
_HEALTH_MARK: Final = "health_check"


class Health:
    """Answers whether a worker is ready. Called on its loop.

    Args:
        worker: Celery's worker.
        container: Whose components are asked: those with pico-ioc's `@health` methods, and pico-actuator's indicators,
            which have a `name` and a method `check`. Only singletons that are made are asked.
        check_timeout: How long each check may take, in seconds.
    """

    def __init__(self, worker: Any, container: PicoContainer, check_timeout: float = _CHECK_TIMEOUT) -> None:
        self.has_singletons = False
        """Whether the singletons that tasks depend on are made."""
        self._worker = worker
        self._container = container
        self._check_timeout = check_timeout
        self._checks: asyncio.Task[Mapping[str, bool]] | None = None
        self._down: set[str] = set()

    async def live(self) -> Response:
        """Answer that the loop runs: where it does not, there is no answer."""
        return _response({"loop": True})

    async def ready(self) -> Response:
        """Answer whether the worker takes messages and can run their tasks."""
        own = {
            "singletons": self.has_singletons,
            "broker": is_connected(self._worker),
            "running": self._worker.blueprint.state == bootsteps.RUN and not is_shutting_down(),
        }
        # Until the singletons are made there is nothing to ask.
        return _response({**await self._of_components(), **own} if self.has_singletons else own)

    async def _of_components(self) -> Mapping[str, bool]:
        # Requests that come meanwhile share the answer: no number of them lets the checks run more than once at a time.
        if self._checks is None or self._checks.done():
            self._checks = asyncio.get_running_loop().create_task(self._check_all(), name="health checks")
        return await asyncio.shield(self._checks)

    async def _check_all(self) -> Mapping[str, bool]:
        checks = dict(component_checks(self._container))
        outcomes = await asyncio.gather(*(self._is_well(name, check) for name, check in checks.items()))
        return dict(zip(checks, outcomes, strict=True))

    async def _is_well(self, name: str, check: Callable[[], Any]) -> bool:
        reason = "it says so"
        try:
            async with asyncio.timeout(self._check_timeout):
                is_well = await _outcome(check)
        except TimeoutError:
            is_well, reason = False, f"it has not answered within {self._check_timeout} s"
        except Exception as error:  # whatever a check of the user's own raises
            is_well, reason = False, f"it raised {type(error).__name__}"
            logger.debug("The health check %s failed", name, exc_info=True)
        if is_well:
            self._down.discard(name)
        elif name not in self._down:
            self._down.add(name)
            logger.warning("The worker is not ready: the health check %s is down, for %s", name, reason)
        return is_well


def is_connected(worker: Any) -> bool:
    """Tell whether a worker has its connection to the broker, and consumes from its queues.

    Args:
        worker: Celery's worker.
    """
    consumer = getattr(worker, "consumer", None)
    if consumer is None or consumer.blueprint.state != bootsteps.RUN:
        return False
    connection = consumer.connection
    return bool(connection) and bool(connection.connected) and consumer.task_consumer is not None


def component_checks(container: PicoContainer) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the health checks of the singletons that a container has made, and their names.

    Args:
        container: The container.
    """
    for made in access.singletons(container):
        instance = access.unwrap_proxy(made)
        if instance is None or inspect.iscoroutine(instance):
            continue
        cls = type(instance)
        for method in access.marked_methods(cls, _HEALTH_MARK):
            yield one_line(f"{cls.__name__}.{method}"), getattr(instance, method)
        name = getattr(instance, "name", None) if callable(getattr(cls, "check", None)) else None
        if isinstance(name, str) and _takes_nothing(instance.check):
            yield one_line(name), instance.check


def _takes_nothing(check: Any) -> bool:
    try:
        inspect.signature(check).bind()
    except (TypeError, ValueError):
        return False
    return True


async def _outcome(check: Callable[[], Any]) -> bool:
    outcome = check() if inspect.iscoroutinefunction(check) else await run_blocking(check)
    if inspect.isawaitable(outcome):
        outcome = await outcome
    return outcome.get("status", _UP) != _DOWN if isinstance(outcome, dict) else bool(outcome)


def _response(checks: Mapping[str, bool]) -> Response:
    is_up = all(checks.values())
    told = {"status": _UP if is_up else _DOWN, "checks": {name: _UP if up else _DOWN for name, up in checks.items()}}
    status = HTTPStatus.OK if is_up else HTTPStatus.SERVICE_UNAVAILABLE
    return Response(status, json.dumps(told).encode() + b"\n", "application/json")
