"""How many files and connections a worker's process may have open, and what that leaves for its tasks.

A process that has none left can neither store a result, nor acknowledge a message, nor connect again. So a worker opens
only so many connections, however many tasks it runs; and one that may not open enough for its tasks runs fewer.
"""

import logging
import os
from typing import Any, Final

from celery.exceptions import ImproperlyConfigured

from pico_celery_worker.consumer.defaults import set_default

resource: Any
try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None

logger = logging.getLogger(__name__)

# What a worker has open beside its tasks: its log, event loop, and connections for messages, events and remote control,
# with some to spare. An idle one of Celery 5.7 on Redis has 20 to 26.
_OWN: Final = 28

# As many results are stored at a time, and as many messages are acknowledged, each by a connection of its own. More
# would not be faster, for the tasks of a process share one interpreter.
_MOST_CONNECTIONS: Final = 16

# Results, acknowledgements, and what tasks send: from coroutines, and otherwise.
_KINDS_OF_CONNECTIONS: Final = 4

# The pipes and semaphores that a pool of processes has for each.
_OF_A_PROCESS: Final = 6

# What a connection and whatever waits for it take together, with some to spare.
_SOME: Final = 8

_NO_LIMIT: Final = 2**20


def most_connections() -> int:
    """Return how many connections a worker opens at most for each of its purposes.

    Example:
        >>> 1 <= most_connections() <= 16
        True
    """
    return max(1, min((_limits()[0] - _OWN) // 16, _MOST_CONNECTIONS))


def fit(worker: Any, has_processes: bool) -> None:
    """Have a worker run only as many tasks at a time as its process may open files for, one for each task.

    Where the system lets it, the limit is raised first.

    Args:
        worker: Celery's worker, which has no pool yet.
        has_processes: Whether each task has a process of its own.

    Raises:
        ImproperlyConfigured: If it may not even open what a worker needs.
    """
    each = _OF_A_PROCESS if has_processes else 1
    wanted = max(worker.concurrency, worker.max_concurrency or 0)
    most = _MOST_CONNECTIONS * _KINDS_OF_CONNECTIONS
    _raise_limit(_OWN + most + each * wanted)
    limit, _ = _limits()
    tasks = (limit - _OWN - most_connections() * _KINDS_OF_CONNECTIONS) // each
    if tasks >= wanted:
        return
    needed = _OWN + _KINDS_OF_CONNECTIONS + each
    if tasks < 1:
        problem = f"This process may open {limit} files; a worker needs {needed} at least. Raise the limit (ulimit -n)."
        logger.critical("The worker cannot start: %s", problem)
        raise ImproperlyConfigured(problem)
    logger.warning(
        "This process may open %d files, which is too few for %d tasks at a time: it runs %d. Raise the limit "
        "(ulimit -n %d) or lower the concurrency (-c)",
        *(limit, wanted, tasks, _OWN + most + each * wanted),
    )
    set_default(worker.app.conf, "broker_pool_limit", most_connections())
    worker.concurrency = min(worker.concurrency, tasks)
    worker.min_concurrency = min(worker.min_concurrency, tasks)
    if worker.max_concurrency:
        worker.max_concurrency = min(worker.max_concurrency, tasks)


def check_room(files: int = _SOME) -> None:
    """See that some files can be opened now.

    Args:
        files: How many.

    Raises:
        OSError: If not.
    """
    opened: list[int] = []
    try:
        while len(opened) < files:
            opened.append(os.dup(2))
    finally:
        for number in opened:
            os.close(number)


def _limits() -> tuple[int, int]:
    """Return how many files this process may open, and how high it may raise that itself."""
    if resource is None:
        return _NO_LIMIT, _NO_LIMIT
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = (_NO_LIMIT if limit == resource.RLIM_INFINITY else limit for limit in (soft, hard))
    return soft, hard


def _raise_limit(wanted: int) -> None:
    soft, hard = _limits()
    if soft >= min(wanted, hard):
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    except (OSError, ValueError) as error:
        logger.debug("The limit of open files cannot be raised: %r", error)
    else:
        logger.info("The limit of open files was %d, and is %d now", soft, min(wanted, hard))
