"""Checks of the container's components: their scopes, and hooks that are never awaited."""

from collections.abc import Iterator

from pico_ioc.constants import SCOPE_SINGLETON

from pico_celery_worker.cli.checks.finding import Finding, Severity
from pico_celery_worker.cli.inspection import Inspection, qualified
from pico_celery_worker.container.oversights import closed_scopes, undeclared_components, unlisted_components
from pico_celery_worker.container.singletons import needs_awaiting


def check(inspection: Inspection) -> Iterator[Finding]:
    """Look at the container's components."""
    if not inspection.handlers and not inspection.stubs:
        modules = ", ".join(unlisted_components())
        yield Finding(
            "no-tasks",
            Severity.WARNING,
            "the container",
            "It has neither tasks nor stubs.",
            f"Name the modules of {modules or 'your components'} in init(modules=[...]).",
        )
    for undeclared in undeclared_components():
        yield Finding("undeclared-component", Severity.WARNING, undeclared.cls, undeclared.problem, undeclared.hint)
    for closed in closed_scopes(inspection.container, [handler.key for handler in inspection.handlers]):
        yield Finding("scope", Severity.ERROR, closed.component, closed.problem, closed.hint)
    yield from _shared_task_components(inspection)
    yield from _unreached_singletons(inspection)


def _shared_task_components(inspection: Inspection) -> Iterator[Finding]:
    for key, cls in {handler.key: handler.cls for handler in inspection.handlers}.items():
        metadata = inspection.container.metadata_for(key)
        if metadata is not None and metadata.scope == SCOPE_SINGLETON:
            yield Finding(
                "singleton-component",
                Severity.WARNING,
                qualified(cls),
                "This task component is a singleton: all its executions share one instance and its state.",
                'Declare it @component(scope="prototype").',
            )


def _unreached_singletons(inspection: Inspection) -> Iterator[Finding]:
    if not inspection.handlers:
        return
    for key in inspection.container.keys():
        metadata = inspection.container.metadata_for(key)
        if metadata is None or metadata.scope != SCOPE_SINGLETON or key in inspection.awaited:
            continue
        if metadata.lazy and needs_awaiting(inspection.container, metadata):
            yield Finding(
                "unreached-singleton",
                Severity.INFO,
                qualified(key) if isinstance(key, type) else str(key),
                "No task depends on this singleton, so the worker does not await its making.",
                "Inject it into the component that needs it; one that is there for other programs may stay as it is.",
            )
