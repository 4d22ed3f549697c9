"""What is wrong or risky in an app, as `celery pico check` tells it."""

from collections.abc import Iterable, Iterator

from pico_celery_core.contract.file import ContractEntry
from pico_celery_worker.cli.checks import components, contracts, handlers, queues, schedules, settings
from pico_celery_worker.cli.checks.finding import CODES, Finding, Severity
from pico_celery_worker.cli.checks.settings import POOLS
from pico_celery_worker.cli.inspection import Inspection

__all__ = ["CODES", "POOLS", "Finding", "Severity", "check", "expected_pool"]

expected_pool = settings.expected_pool


def check(
    inspection: Inspection, pool: str = "", promises: Iterable[ContractEntry] = (), queue_limit: int = 0
) -> list[Finding]:
    """Look for what is wrong or risky.

    Args:
        inspection: The app.
        pool: The pool its workers have, one of `POOLS`; empty where it is not configured.
        promises: What clients elsewhere send, from their contracts.
        queue_limit: How many messages that wait in a queue are read from RabbitMQ at most; 0 to ask no broker.

    Returns:
        What was found: errors first, then warnings, then the rest.
    """

    def found() -> Iterator[Finding]:
        if not pool:
            yield from settings.check_choices(inspection)
        yield from components.check(inspection)
        yield from contracts.check(inspection)
        yield from contracts.check_promises(inspection, promises)
        yield from handlers.check(inspection, pool or expected_pool(inspection.app.conf))
        yield from schedules.check(inspection)
        if queue_limit:
            yield from queues.check(inspection, queue_limit)
        yield from settings.check(inspection, pool or expected_pool(inspection.app.conf))

    return sorted(found(), key=lambda finding: list(Severity).index(finding.severity))
