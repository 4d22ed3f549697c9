"""Sentry, whose events go into a file. Imports nothing of ours."""

import json
import os
from pathlib import Path
from typing import Any

import sentry_sdk
from celery import signals

MOMENTS = {"celeryd_init": signals.celeryd_init, "worker_init": signals.worker_init}


def observe(**_: Any) -> None:
    def write(event: Any, hint: Any) -> None:
        with Path(os.environ["TEST_EVENTS"]).open("a") as file:
            file.write(json.dumps(event, default=str) + "\n")

    sentry_sdk.init("http://key@localhost:9/1", before_send=write)


def observe_at(moment: str) -> None:
    """Begin at one of the moments that Sentry's documentation names: at once, or on a signal of the worker's."""
    if moment in MOMENTS:
        MOMENTS[moment].connect(observe, weak=False)
    else:
        observe()
