"""Checks of handlers: what they take, and what they call."""

import inspect
from collections.abc import Iterator
from typing import Final

from celery import Celery

from pico_celery_core.contract.signatures import method_signature
from pico_celery_worker.cli.checks.blocking import blocking_calls
from pico_celery_worker.cli.checks.finding import Finding, Severity, untyped_finding
from pico_celery_worker.cli.inspection import Inspection
from pico_celery_worker.container.handlers import Handler
from pico_celery_worker.tasks.models import unresolved_annotation
from pico_celery_worker.tasks.values import untyped

_TAKES_A_TASK: Final = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
)

# Celery 5.7 warns of these when it binds a task, and means to ignore them from 6.0 on.
_DEPRECATED: Final = ("queue", "exchange", "routing_key", "delivery_mode", "priority")

# In the others a process runs one task at a time, so a task that blocks holds up nothing but itself.
_CONCURRENT: Final = ("gevent", "eventlet", "threads")


def check(inspection: Inspection, pool: str) -> Iterator[Finding]:
    """Look at the container's handlers."""
    for handler in inspection.handlers:
        yield from _bound_without_place(handler)
        yield from _unresolved(handler)
        yield from _untyped(handler, inspection.app)
        yield from _deprecated_options(handler)
        if pool in _CONCURRENT:
            yield from _blocking(handler)


def _bound_without_place(handler: Handler) -> Iterator[Finding]:
    parameters = method_signature(handler.function).parameters.values()
    if handler.spec.options.get("bind") and not any(p.kind in _TAKES_A_TASK for p in parameters):
        yield Finding(
            "bind",
            Severity.ERROR,
            str(handler),
            "With bind=True it gets the task as its first argument, and has no parameter for it after self.",
            "Remove bind=True and inject TaskContext, or add a parameter after self.",
        )


def _unresolved(handler: Handler) -> Iterator[Finding]:
    unresolved = unresolved_annotation(handler)
    if unresolved is not None:
        problem = f"{unresolved.problem[0].upper()}{unresolved.problem[1:]}."
        yield Finding("annotation", Severity.ERROR, str(handler), problem, unresolved.hint)


def _untyped(handler: Handler, app: Celery) -> Iterator[Finding]:
    for found in untyped(handler, app):
        yield untyped_finding(str(handler), found)


def _deprecated_options(handler: Handler) -> Iterator[Finding]:
    for option in _DEPRECATED:
        if option in handler.spec.options:
            yield Finding(
                "deprecated-option",
                Severity.WARNING,
                str(handler),
                f"Celery 6 will ignore the option {option!r} of a task; today it holds only for what this app sends.",
                f"Give it to @send_task, or set it in task_routes for {handler.spec.name!r}.",
            )


def _blocking(handler: Handler) -> Iterator[Finding]:
    for line, name in blocking_calls(handler.function):
        yield Finding(
            "blocking-call",
            Severity.WARNING,
            f"{handler}, line {line}",
            f"{name} blocks the event loop: all other tasks of the process wait until it returns.",
            f"Await an async counterpart, or `await run_blocking({name}, ...)`.",
        )
