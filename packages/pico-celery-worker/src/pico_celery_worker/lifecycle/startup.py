"""Warnings at a worker's start of silent mistakes: tasks that no worker runs, options that have no effect."""

import logging
from typing import Any, Final

import click
from celery import Celery
from celery.exceptions import ImproperlyConfigured
from click.core import ParameterSource

from pico_celery_core.errors import ClosedScopeError, PicoCeleryError
from pico_celery_worker.container.oversights import closed_scopes, undeclared_components, unlisted_components
from pico_celery_worker.container.shutdown import refuse_closed
from pico_celery_worker.tasks.models import refuse_unresolved
from pico_celery_worker.tasks.runtime import Runtime
from pico_celery_worker.tasks.values import untyped

logger = logging.getLogger(__name__)

# Pools of many tasks in a process, and what is a good number of them to begin with.
_MANY: Final = {"gevent": 1000, "eventlet": 1000, "thread": 100}

# Options of `celery worker` that are about child processes. Celery takes them with any pool, and does nothing.
_OF_PROCESSES: Final = ("max_tasks_per_child", "max_memory_per_child", "pool_start_method")


def refuse_to_start(runtime: Runtime) -> None:
    """Check that a container's tasks can run, early enough for the error to reach the code that makes the worker.

    Args:
        runtime: The container, and what runs its tasks.

    Raises:
        ContainerClosedError: If the container was closed.
        ClosedScopeError: If tasks need a component whose scope the container does not know.
        DeclarationError: If an annotation of a handler with `pydantic=True` cannot be evaluated.
    """
    try:
        refuse_closed(runtime.container, "worker")
        for executor in runtime.executors:
            refuse_unresolved(executor.handler)
        for closed in closed_scopes(runtime.container, _keys(runtime)):
            if not closed.is_known:
                raise ClosedScopeError(closed.problem, closed.hint)
    except PicoCeleryError as error:
        logger.critical("The worker cannot start: %s", error)
        raise


def refuse_options(pool: str) -> None:
    """Check that the options on the command line are such that the worker's pool does what they say.

    Settings may be those of several workers, and have no effect where there are no processes.

    Args:
        pool: The name of the pool.

    Raises:
        ImproperlyConfigured: If one has no effect.
    """
    given = ["--" + name.replace("_", "-") for name in _OF_PROCESSES if pool != "prefork" and _is_given(name)]
    if given:
        problem = (
            f"{' and '.join(given)} cannot be used with the {pool} pool, which has no child processes. "
            "Start the worker without it, or with prefork."
        )
        logger.critical("The worker cannot start: %s", problem)
        raise ImproperlyConfigured(problem)


def warn_of_oversights(worker: Any, pool: str, runtime: Runtime) -> None:
    """Warn of what was probably forgotten.

    Args:
        worker: Celery's worker, which starts.
        pool: The name of its pool.
        runtime: Its container, and what runs its tasks.
    """
    _look_at_pool(worker, pool)
    if not runtime.executors and not has_plain_tasks(worker.app):
        imported = ", ".join(unlisted_components())
        logger.warning(
            "This worker has no tasks: its container has no component with a @task method. "
            "Did you mean to name %s in init(modules=[...])?",
            f"the modules of {imported}" if imported else "the modules of your task components",
        )
    for executor in runtime.executors:
        for found in untyped(executor.handler, worker.app):
            logger.warning("%s: %s", executor.handler, found)
    for undeclared in undeclared_components():
        logger.warning("%s %s", undeclared.problem, undeclared.hint)
    for closed in closed_scopes(runtime.container, _keys(runtime)):
        logger.warning("%s %s", closed.problem, closed.hint)


def _keys(runtime: Runtime) -> list[Any]:
    return [executor.handler.key for executor in runtime.executors]


def has_plain_tasks(app: Celery) -> bool:
    """Tell whether an app has plain tasks of its user's own, beside those of a container."""
    return any(not name.startswith("celery.") for name in app.tasks)


def _look_at_pool(worker: Any, pool: str) -> None:
    conf = worker.app.conf
    if pool == "prefork" and _is_left_out("pool") and not conf.value_set_for("worker_pool"):
        logger.warning(
            "No pool was chosen, so this is the prefork pool, which runs one task at a time in a process, "
            "and %s at once at most. Did you mean -P gevent, which runs many?",
            worker.concurrency,
        )
    elif pool in ("prefork", "solo"):
        logger.warning("The %s pool runs one task at a time in a process; -P gevent runs many", pool)
    is_chosen = conf.value_set_for("worker_concurrency") or not (
        _is_left_out("concurrency") and _is_left_out("autoscale")
    )
    if pool in _MANY and not is_chosen:
        logger.warning(
            "No concurrency was chosen, so %s tasks run at once at most, as many as the machine has cores. "
            "Did you mean -c %s?",
            worker.concurrency,
            _MANY[pool],
        )


def _is_left_out(option: str) -> bool:
    """Tell whether a worker was started from the command line, without an option."""
    return _source_of(option) is ParameterSource.DEFAULT


def _is_given(option: str) -> bool:
    """Tell whether a worker was started from the command line, with an option."""
    return _source_of(option) is ParameterSource.COMMANDLINE


def _source_of(option: str) -> ParameterSource | None:
    context = click.get_current_context(silent=True)
    while context is not None and option not in context.params:
        context = context.parent
    return None if context is None else context.get_parameter_source(option)
