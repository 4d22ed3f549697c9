"""Tasks and findings as text for a terminal, and as data for JSON."""

import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pico_celery_worker.cli.checks.finding import Finding, Severity
from pico_celery_worker.cli.inspection import Dependency, TaskDescription, qualified

Style = Callable[..., str]
"""Gives a text a colour or weight, as `click.style` does."""

_WIDTH: Final = 80
_MARGIN: Final = 12
_COLORS: Final = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "blue"}


@dataclass(frozen=True, slots=True)
class Lines:
    """What a tree is drawn with."""

    branch: str = "├─ "
    last: str = "└─ "
    trunk: str = "│  "

    @classmethod
    def of(cls, encoding: str) -> "Lines":
        """Return lines that an output of this encoding can show."""
        lines = cls()
        try:
            f"{lines.branch}{lines.last}{lines.trunk}".encode(encoding)
        except (LookupError, UnicodeEncodeError):
            return cls("|- ", "`- ", "|  ")
        return lines


def task_text(task: TaskDescription, style: Style, lines: Lines) -> str:
    """Describe a task in some lines of at most 80 columns, where its names are not longer."""
    rows = {
        "handler": [f"{task.component}.{task.method}"],
        "scope": [task.scope],
        "queue": [task.queue],
        "options": _wrapped(", ".join(f"{name}={_option(value)}" for name, value in task.options.items()), _MARGIN),
        "signature": _wrapped(str(task.signature), _MARGIN),
        "needs": list(_tree(task.needs, lines)),
    }
    text = [style(task.name, bold=True), *_paragraph(task.summary)]
    for label, block in rows.items():
        labels = [f"  {label}", *[""] * len(block)]
        text += [first.ljust(_MARGIN) + line for first, line in zip(labels, block, strict=False)]
    return "\n".join(text)


def task_data(task: TaskDescription) -> dict[str, Any]:
    """Return a task as JSON can hold it. Its keys are promised in docs/reference/command-line.md."""
    return {
        "name": task.name,
        "component": task.component,
        "method": task.method,
        "scope": task.scope,
        "queue": task.queue,
        "options": _plain(task.options),
        "signature": str(task.signature),
        "summary": task.summary,
        "needs": [_dependency_data(need) for need in task.needs],
    }


def finding_text(finding: Finding, style: Style) -> str:
    """Describe a finding in some lines of at most 80 columns, where its names are not longer."""
    severity = style(finding.severity.value, fg=_COLORS[finding.severity], bold=True)
    head = f"{severity} {finding.code}: {finding.where}"
    return "\n".join([head, *_paragraph(finding.problem), *_paragraph(finding.hint)])


def finding_data(finding: Finding) -> dict[str, str]:
    """Return a finding as JSON can hold it. Its keys are promised in docs/reference/command-line.md."""
    return {
        "code": finding.code,
        "severity": finding.severity.value,
        "where": finding.where,
        "problem": finding.problem,
        "hint": finding.hint,
    }


def count(number: int, noun: str) -> str:
    """Return a number with its noun.

    Example:
        >>> count(1, "task"), count(2, "task")
        ('1 task', '2 tasks')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _wrapped(text: str, margin: int) -> list[str]:
    return textwrap.wrap(text, _WIDTH - margin, break_long_words=False, break_on_hyphens=False)


def _paragraph(text: str) -> list[str]:
    return [f"  {line}" for line in _wrapped(text, margin=2)]


def _tree(needs: Iterable[Dependency], lines: Lines) -> Iterator[str]:
    """Yield the lines of a tree; what stands at its root has no line to it."""
    for need in needs:
        yield _described(need)
        yield from _branches(need.needs, lines, "")


def _branches(needs: tuple[Dependency, ...], lines: Lines, margin: str) -> Iterator[str]:
    for number, need in enumerate(needs, start=1):
        is_last = number == len(needs)
        yield margin + (lines.last if is_last else lines.branch) + _described(need)
        yield from _branches(need.needs, lines, margin + ("   " if is_last else lines.trunk))


def _described(dependency: Dependency) -> str:
    provided = dependency.cls.rpartition(".")[2]
    name = dependency.name if provided in ("", dependency.name) else f"{dependency.name}: {provided}"
    notes = [dependency.scope, *["awaited at start"] * dependency.awaited, *["see above"] * dependency.repeated]
    return f"{name} ({', '.join(notes)})"


def _dependency_data(dependency: Dependency) -> dict[str, Any]:
    return {
        "name": dependency.name,
        "class": dependency.cls,
        "scope": dependency.scope,
        "awaited": dependency.awaited,
        "repeated": dependency.repeated,
        "needs": [_dependency_data(need) for need in dependency.needs],
    }


def _option(value: Any) -> str:
    if isinstance(value, type):
        return qualified(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_option, value))}]"
    return repr(_plain(value))


def _plain(value: Any) -> Any:
    """Return an option's value as JSON can hold it."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, type):
        return qualified(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    return repr(value)
