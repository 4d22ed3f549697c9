"""One thing that a check has found."""

import enum
from dataclasses import dataclass
from typing import Final

from pico_celery_core.values.untyped import Untyped

CODES: Final = frozenset(
    {
        "annotation",
        "bind",
        "blocking-call",
        "concurrency-unset",
        "connections",
        "contract",
        "contract-differs",
        "deprecated-option",
        "eager",
        "loose-contract",
        "memory",
        "no-effect",
        "no-handler",
        "no-tasks",
        "pickle",
        "pool",
        "pool-unset",
        "prefetch",
        "schedule",
        "schedule-clash",
        "schedule-time-zone",
        "scope",
        "singleton-component",
        "time-limit",
        "undeclared-component",
        "unreached-singleton",
        "unread-queue",
        "unread-setting",
        "waiting-message",
    }
)
"""What findings there are, by their codes; docs/reference/command-line.md says what each is about."""


class Severity(enum.StrEnum):
    """How much a finding matters."""

    ERROR = "error"
    """It does not work."""

    WARNING = "warning"
    """It works until it does not."""

    INFO = "info"
    """Good to know, and often meant so."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found.

    Args:
        code: Names the kind of finding in one word.
        severity: How much it matters.
        where: The class, the method or the setting.
        problem: What is wrong, or may go wrong.
        hint: What to do.
    """

    code: str
    severity: Severity
    where: str
    problem: str
    hint: str


def untyped_finding(where: str, untyped: Untyped) -> Finding:
    """Return what is found of an annotation that says a type which values do not get.

    Args:
        where: The method.
        untyped: What is wrong with it.
    """
    severity = Severity.ERROR if untyped.is_fatal else Severity.WARNING
    return Finding("untyped", severity, where, untyped.problem, untyped.hint)
