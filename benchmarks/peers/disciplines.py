"""What is compared."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from benchmarks.peers import measure
from benchmarks.peers.contenders import CELERY, CELERY_SHARED, OURS, UNTRACKED, Contender, Servers

# The figures of all rounds, by discipline and contender's label.
Figures = dict[str, dict[str, list[float]]]


@dataclass(frozen=True)
class Discipline:
    """What is measured.

    Args:
        label: Its name in tables and plots.
        measure: Measures one contender once.
        figure: Which of the figures it returns is compared.
        unit: That figure's unit.
        share: How many tasks it takes, as a share of those that the command line names.
        more_is_better: Whether a higher figure is the better one.
        without: Who takes no part.
        only: Who alone takes part; all, if empty.
    """

    label: str
    measure: Callable[[Contender, Servers, int], dict[str, float]]
    figure: str
    unit: str
    share: float
    more_is_better: bool = True
    without: tuple[Contender, ...] = ()
    only: tuple[Contender, ...] = ()

    def takes(self, contender: Contender) -> bool:
        """Whether a contender takes part."""
        return contender not in self.without and (not self.only or contender in self.only)

    def ratio(self, ours: float, theirs: float) -> float:
        """Return by how much ours is better: more than 1 if it is."""
        return ours / theirs if self.more_is_better else theirs / ours


# Whether a worker tracks tasks makes no difference to those who send.
DISCIPLINES: Final = {
    "noop": Discipline("no-op tasks", measure.noop_rate, "rate", "tasks/s", 1),
    "wait": Discipline("half-second tasks, 1,000 at a time", measure.wait_rate, "rate", "tasks/s", 0.75),
    "publish": Discipline(
        "publishing by 100 coroutines", measure.publish_rate, "rate", "tasks/s", 1, without=(UNTRACKED, CELERY_SHARED)
    ),
    "publish-now": Discipline(
        "publishing by a plain loop", measure.publish_now_rate, "rate", "tasks/s", 1, only=(OURS, CELERY)
    ),
    "round-trip": Discipline(
        "a call and its result", measure.round_trip, "median", "ms", 0.1, more_is_better=False, without=(CELERY,)
    ),
}
