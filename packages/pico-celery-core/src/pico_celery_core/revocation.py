"""What clients and workers agree on to cancel a task.

Celery's own `revoke` is heard by the workers that are there. Here Redis, as a broker, also remembers what was revoked,
so that a worker obeys that takes the message later, and which workers there are, so that a client knows whose answers
it has to wait for.
"""

from enum import StrEnum
from typing import Final

COMMAND: Final = "pico_revoke"
"""The command of remote control that revokes tasks, with their ids as `task_ids`."""

# Both follow kombu's `unacked` in their names, which an application may have changed.
REVOKED_SUFFIX: Final = ":revoked"
"""What follows in the name of the sorted set of ids that were revoked, each with the time at which it is forgotten."""
WORKERS_SUFFIX: Final = ":workers"
"""What follows in the name of the sorted set of workers, each with the time at which it counts as gone."""

LIFETIME: Final = 7 * 86400
"""For how long Redis remembers that a task was revoked, in seconds."""


class Answer(StrEnum):
    """What a worker says of a task that it was told to revoke. Of one that it does not have it says nothing."""

    RUNNING = "running"
    """It has begun, or is about to, and is being cancelled."""
    REVOKED = "revoked"
    """It does not run to its end here."""
    ENDED = "ended"
    """It has succeeded here."""
