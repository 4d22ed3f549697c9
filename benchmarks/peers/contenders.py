"""Who takes part, on which broker."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True)
class Contender:
    """A library, and how it is set up.

    Args:
        label: Its name in tables and plots.
        app: The module in `benchmarks/peers/apps`.
        variant: What that module is told.
    """

    label: str
    app: str
    variant: str = ""

    @property
    def module(self) -> str:
        """The name by which its app is imported."""
        return f"benchmarks.peers.apps.{self.app}"


@dataclass(frozen=True)
class Servers:
    """Where the broker and the results are: URLs."""

    broker: str
    results: str

    def environment(self, contender: Contender, concurrency: int) -> dict[str, str]:
        """Return the environment in which a contender's processes run."""
        return {
            **os.environ,
            "PEERS_BROKER": self.broker,
            "PEERS_RESULTS": self.results,
            "PEERS_CONCURRENCY": str(concurrency),
            "PEERS_VARIANT": contender.variant,
            "PYTHONPATH": str(ROOT),
        }


OURS: Final = Contender("pico-celery", "pico")
UNTRACKED: Final = Contender("pico-celery, task_track_started off", "pico", "untracked")
CELERY: Final = Contender("Celery as it comes", "plain_celery")
CELERY_SHARED: Final = Contender("Celery, shared result backend", "plain_celery", "shared")

REDIS: Final = (
    OURS,
    UNTRACKED,
    CELERY,
    CELERY_SHARED,
    Contender("taskiq, Redis list", "taskiq_app", "list"),
    Contender("taskiq, Redis stream", "taskiq_app", "stream"),
    Contender("saq", "saq_app"),
    Contender("streaq", "streaq_app"),
)
RABBITMQ: Final = (OURS, UNTRACKED, CELERY, CELERY_SHARED, Contender("taskiq, aio-pika", "taskiq_app", "aio-pika"))
