"""Which workers there are, noted in Redis: those whose answers a client has to wait for when it cancels a task."""

import logging
import os
import uuid
from typing import Any, Final

from pico_celery_core.revocation import WORKERS_SUFFIX

logger = logging.getLogger(__name__)

LIFETIME: Final = 60
"""After how long a worker counts as gone that has not said that it lives, in seconds.

It says so three times within that.
"""

_token: Final = uuid.uuid4().hex


def worker_name() -> str:
    """Return the name of this process among the workers of a broker: Celery's node names need not be unique."""
    return f"{_token}.{os.getpid()}"  # a forked process has the token of its parent


def register(channel: Any, client: Any) -> None:
    """Note that this worker is there.

    Args:
        channel: kombu's channel to Redis.
        client: By which to note it.
    """
    try:
        # By the clock of Redis, as clients read it: their own may differ.
        seconds, _ = client.time()
        client.zadd(channel.unacked_key + WORKERS_SUFFIX, {worker_name(): seconds + LIFETIME})
    except channel.ResponseError as error:
        logger.debug("Redis does not let this worker be noted, so a client that cancels may miss it: %s", error)


def unregister(channel: Any) -> None:
    """Note that this worker has ended.

    Args:
        channel: kombu's channel to Redis.
    """
    with channel.conn_or_acquire() as client:
        client.zrem(channel.unacked_key + WORKERS_SUFFIX, worker_name())
