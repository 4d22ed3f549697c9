"""Sentry beside us: it sees the failures of plain tasks and of ours, and no argument that is marked as sensitive."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.workers import ROOT, running_worker, sender
from tests.waiting import eventually

SECRET = "secret-of-sentrys-2b7d"


def events(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def of_task(found: list[Any], name: str) -> list[Any]:
    return [event for event in found if event.get("transaction") == name]


@pytest.mark.services
@pytest.mark.parametrize("moment", ["module", "celeryd_init", "worker_init"])
@pytest.mark.parametrize(
    ("app", "pool"), [("observed_plain", "threads"), ("observed_plain", "prefork"), ("observed", "gevent")]
)
def test_sentry_sees_what_fails(app: str, pool: str, moment: str, tmp_path: Path, redis_url: str) -> None:
    path = tmp_path / "events"
    options = ("-P", pool, "-c", "2")
    told = {"TEST_EVENTS": str(path), "TEST_MOMENT": moment}
    with running_worker(app, *options, broker=redis_url, backend=redis_url, **told) as worker:
        with sender(redis_url, redis_url) as celery_app:
            celery_app.send_task("observed.fail", ["ada", SECRET])
            eventually(lambda: of_task(events(path), "observed.fail"))
        assert worker.stop() == 0
    [event] = of_task(events(path), "observed.fail")
    [raised] = event["exception"]["values"]
    assert (raised["type"], raised["value"], raised["mechanism"]["type"]) == ("LookupError", "ada", "celery")
