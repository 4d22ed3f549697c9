"""The pools, and what each can do. docs/reference/pools.md says the same; test_pools_page.py compares the two."""

from dataclasses import dataclass
from enum import StrEnum


class Ends(StrEnum):
    """How a pool ends a task that has to end."""

    CLEANLY = "yes"
    """The coroutine is cancelled, and its clean-up runs."""
    BY_KILLING = "kills"
    """The process is killed, and with it whatever clean-up there was to do."""
    NOT_AT_ALL = "no"


@dataclass(frozen=True)
class Pool:
    """What to expect of a pool.

    Args:
        name: The pool's name, as in `-P name`.
        concurrency: The `-c` to test it with.
        processes: How many processes run tasks.
        hard_limit: What `time_limit` does.
        terminate: What `revoke(terminate=True)` does.
        listens: Whether the worker answers remote control while a task runs.
    """

    name: str
    concurrency: int
    processes: int = 1
    hard_limit: Ends = Ends.CLEANLY
    terminate: Ends = Ends.CLEANLY
    listens: bool = True

    @property
    def options(self) -> tuple[str, ...]:
        return ("-P", self.name, "-c", str(self.concurrency))

    def __str__(self) -> str:
        return self.name


POOLS = (
    Pool("gevent", 100),
    Pool("eventlet", 100),
    Pool("threads", 20),
    Pool("solo", 1, terminate=Ends.NOT_AT_ALL, listens=False),
    Pool("prefork", 2, processes=2, hard_limit=Ends.BY_KILLING, terminate=Ends.BY_KILLING),
)
