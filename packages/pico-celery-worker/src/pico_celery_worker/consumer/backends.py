"""Tasks whose senders look for the result where this worker does not put it."""

import logging
from collections.abc import Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

from celery import Celery

from pico_celery_core.backends import BACKEND_HEADER, result_backend_address
from pico_celery_worker.loop.log_fields import log_fields

logger = logging.getLogger(__name__)

# How many senders' backends are compared, and how long what is told of one may be.
_MOST: Final = 100
_LONGEST: Final = 200

_compared: WeakKeyDictionary[Celery, set[str]] = WeakKeyDictionary()


def compare_backends(app: Celery, task: str, headers: Mapping[str, Any]) -> None:
    """Warn, once for each backend, of a message whose sender has another result backend than this worker.

    Args:
        app: The worker's app.
        task: The task's name.
        headers: The message's, in which our clients say where they look for results.
    """
    theirs = headers.get(BACKEND_HEADER)
    if not isinstance(theirs, str):
        return
    compared = _compared.setdefault(app, set())
    theirs = theirs[:_LONGEST]
    if theirs in compared or len(compared) >= _MOST:
        return
    compared.add(theirs)
    ours = result_backend_address(app)
    if theirs != ours:
        logger.warning(
            "Task %s was sent by an app that looks for its result in %r, but this worker %s: "
            "waiting for it may never end. Give both the same backend_url. "
            "If these are two names of one place, all is well.",
            task,
            theirs,
            f"stores it in {ours!r}" if ours else "stores none",
            extra=log_fields("result-backends-differ", task),
        )
