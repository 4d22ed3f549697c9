"""pico-celery beside plain Celery, taskiq, saq and streaq: one worker process each, one run, by turns.

In each round every contender is measured once, one after the other, so that a machine's load falls on all. What is
printed are medians, and the medians of the ratios of ours to the other's in the same round.
"""

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.peers import measure
from benchmarks.peers.contenders import OURS, RABBITMQ, REDIS, Contender, Servers
from benchmarks.peers.disciplines import DISCIPLINES, Discipline, Figures
from benchmarks.peers.drawing import draw
from tests.servers import temporary_redis


def compare(
    servers: Servers, contenders: Sequence[Contender], names: Sequence[str], tasks: int, rounds: int
) -> Figures:
    """Measure every contender in every discipline, by turns.

    Returns:
        The figures of all rounds, by discipline and label.
    """
    console = Console(stderr=True)
    figures: Figures = {name: {} for name in names}
    for number in range(rounds):
        for name in names:
            discipline = DISCIPLINES[name]
            for contender in filter(discipline.takes, contenders):
                figure = discipline.measure(contender, servers, int(tasks * discipline.share))[discipline.figure]
                figures[name].setdefault(contender.label, []).append(figure)
                console.print(f"round {number + 1}: {discipline.label}: {contender.label}: {figure:,.1f}")
    measure.empty(servers)
    return figures


def ratios(discipline: Discipline, figures: dict[str, list[float]]) -> dict[str, float]:
    """Return the medians of the ratios of ours to each other's, of the same round."""
    ours = figures[OURS.label]
    return {
        label: statistics.median(map(discipline.ratio, ours, theirs))
        for label, theirs in figures.items()
        if label != OURS.label
    }


def show(broker: str, figures: Figures) -> None:
    """Print a table for each discipline."""
    for name, by_label in figures.items():
        discipline = DISCIPLINES[name]
        ours_by = ratios(discipline, by_label)
        table = Table(
            "", discipline.unit, "ours is better by", title=f"{broker}: {discipline.label}", title_justify="left"
        )
        for label, values in by_label.items():
            ratio = f"{ours_by[label]:.2f} ×" if label in ours_by else ""
            table.add_row(label, f"{statistics.median(values):,.1f}", ratio)
        Console().print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rabbitmq", default="", help="the URL of a RabbitMQ that serves nothing else, to compare on it too"
    )
    parser.add_argument("--only", nargs="*", default=[*DISCIPLINES], choices=DISCIPLINES, help="what to measure")
    parser.add_argument("--tasks", type=int, default=4000, help="how many no-op tasks; the others in proportion")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="a file for all figures")
    parser.add_argument("--svg", type=Path, help="a file for the plot")
    options = parser.parse_args(arguments)
    if not shutil.which("redis-server"):
        sys.exit("There is no redis-server to start.")

    url = temporary_redis()
    runs = {"Redis": (Servers(f"{url}/0", f"{url}/0"), REDIS)}
    if options.rabbitmq:
        runs["RabbitMQ"] = (Servers(options.rabbitmq, f"{url}/0"), RABBITMQ)
    told = {}
    for broker, (servers, contenders) in runs.items():
        told[broker] = compare(servers, contenders, options.only, options.tasks, options.rounds)
    for broker, figures in told.items():
        show(broker, figures)
    if options.json:
        options.json.write_text(json.dumps(told, indent=2), encoding="utf-8")
    if options.svg:
        draw(options.svg, told)


if __name__ == "__main__":
    main()
