"""What the demo shows."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from examples.quickstart.demo.process import COMMAND, Worker

_SHOWN = 12


@dataclass(frozen=True, order=True)
class Answer:
    """What became of one order, and how long after the first was sent, in seconds."""

    order: int
    outcome: str | Exception
    after: float


class Display:
    def __init__(self) -> None:
        self._console = Console(highlight=False)

    def broker(self, broker: str) -> None:
        self._console.print(f"Messages and results go through {broker}.")

    def started(self, worker: Worker) -> None:
        self._console.print(f"Started a worker, process {worker.pid}:\n  [cyan]{escape(COMMAND)}[/]", soft_wrap=True)

    def ready(self, orders: int) -> None:
        self._console.print(f"The worker is ready. Selling {orders} orders at once.")

    @contextmanager
    def progress(self, orders: int) -> Generator[Callable[[], None]]:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console) as progress:
            bar = progress.add_task("Orders confirmed", total=orders)
            yield lambda: progress.advance(bar)

    def answers(self, answers: Sequence[Answer], seconds: float) -> None:
        table = Table("Order", "Result", "Answered after")
        table.columns[0].justify = table.columns[2].justify = "right"
        head, tail = (len(answers), 0) if len(answers) <= _SHOWN else (_SHOWN - 2, 1)
        for answer in answers[:head]:
            table.add_row(*_cells(answer))
        if tail:
            table.add_row("…", f"… {len(answers) - head - tail} more …", "…")
            table.add_row(*_cells(answers[-1]))
        self._console.print(table)
        total = max(answer.after for answer in answers)
        self._console.print(
            f"[bold]{len(answers)} orders in {total:.2f} s.[/] Each waits {seconds:g} s for its mail server: "
            f"one after another they would take {len(answers) * seconds:g} s."
        )

    def stopping(self) -> None:
        self._console.print("Stopping the worker.")

    def interrupted(self) -> None:
        self._console.print("Interrupted; everything is stopped.")

    def failed(self, problem: Exception, log: Sequence[str]) -> None:
        self._console.rule("The worker's log")
        for line in log:
            self._console.print(line, markup=False, soft_wrap=True)
        self._console.rule()
        self._console.print(f"[bold red]Failed:[/] {escape(f'{type(problem).__name__}: {problem}')}", soft_wrap=True)


def _cells(answer: Answer) -> tuple[str, str, str]:
    if isinstance(answer.outcome, Exception):
        outcome = f"[red]{escape(f'{type(answer.outcome).__name__}: {answer.outcome}')}[/]"
    else:
        outcome = escape(answer.outcome)
    return str(answer.order), outcome, f"{answer.after:.2f} s"
