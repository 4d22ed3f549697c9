"""Sentry beside us: it sees what fails, in plain tasks and in ours, and no argument that is marked as sensitive."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.workers import running_worker, sender
from tests.waiting import eventually

pytestmark = pytest.mark.services

SECRET = "secret-of-sentrys-2b7d"

# How each task of `apps/observed.py` ends.
FAILURES = {
    "fail": "LookupError",
    "fail_in_a_group": "ExceptionGroup",
    "give_up": "MaxRetriesExceededError",
    "give_up_because": "LookupError",
    "fail_at_last": "LookupError",
    "exit": "HandlerExitError",
    "time_out": "SoftTimeLimitExceeded",
    "unavailable": "ResolutionError",
}


def events(path: Path) -> list[Any]:
    """Return what Sentry has written, but for a line that it is writing."""
    written = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in written.rpartition("\n")[0].splitlines()]


def failures(path: Path) -> dict[str, str]:
    """Return which task failed with what."""
    tasks = [event for event in events(path) if event.get("transaction")]
    return {event["transaction"].partition(".")[2]: event["exception"]["values"][-1]["type"] for event in tasks}


def places(found: Any, *where: Any) -> Iterator[Any]:
    """Return where in events the secret is."""
    if isinstance(found, (dict, list)):
        for key, value in found.items() if isinstance(found, dict) else enumerate(found):
            frame = found.get("function", key) if isinstance(found, dict) else key
            yield from places(value, *where, *dict.fromkeys((frame, key)))
    elif SECRET in str(found):
        yield *where, found


@pytest.mark.parametrize(
    ("pool", "moment"),
    [("threads", "module"), ("threads", "celeryd_init"), ("threads", "worker_init"), ("prefork", "module")],
)
def test_plain_tasks_are_observed_where_our_packages_are_installed(
    pool: str, moment: str, tmp_path: Path, redis_url: str
) -> None:
    path = tmp_path / "events"
    told = {"TEST_EVENTS": str(path), "TEST_MOMENT": moment}
    with (
        sender(redis_url, redis_url) as app,
        running_worker("observed_plain", "-P", pool, "-c", "1", broker=redis_url, backend=redis_url, **told),
    ):
        app.send_task("observed.fail", ["ada", SECRET])
        eventually(lambda: failures(path) == {"fail": "LookupError"})


@pytest.mark.parametrize(("pool", "moment"), [("gevent", "module"), ("prefork", "celeryd_init")])
def test_ours_are_observed_and_show_nothing_sensitive(pool: str, moment: str, tmp_path: Path, redis_url: str) -> None:
    path = tmp_path / "events"
    told = {"TEST_EVENTS": str(path), "TEST_MOMENT": moment}
    with (
        sender(redis_url, redis_url) as app,
        running_worker("observed", "-P", pool, "-c", "4", broker=redis_url, backend=redis_url, **told) as worker,
    ):
        for name in FAILURES:
            app.send_task(f"observed.{name}", ["ada", SECRET])
        app.send_task("observed.never", ["ada", SECRET])
        eventually(lambda: failures(path) == FAILURES, explain=lambda: failures(path))
        for call in (["ada", SECRET, SECRET], {}), ([], {"user": "ada", "pasword": SECRET}):
            app.send_task("observed.fail", *call)
        with app.producer_pool.acquire() as producer:
            body = json.dumps([["ada", SECRET], {}, {}])
            described = {"content_type": "application/json", "content_encoding": "utf-8", "routing_key": "celery"}
            for text, changed in ((body, {"timelimit": 5}), (body, {"eta": "x"}), (body[:-3], {}), (body, {"id": 5})):
                headers = {"task": "observed.fail", "id": "an-id", "lang": "py", **changed}
                producer.publish(text, headers=headers, **described)
        eventually(lambda: worker.log.count("Received invalid task message") == 3)
        eventually(lambda: len(events(path)) >= len(FAILURES) + 7)
        assert list(places(events(path))) == []
        assert SECRET not in worker.log
    [event] = [event for event in events(path) if event.get("transaction") == "observed.fail_at_last"]
    frames = event["exception"]["values"][-1]["stacktrace"]["frames"]
    assert [frame["function"] for frame in frames] == ["fail_at_last"]


@pytest.mark.parametrize("pool", ["gevent", "threads", "prefork"])
def test_tasks_are_kept_apart_and_traces_hang_together(pool: str, tmp_path: Path, redis_url: str) -> None:
    path = tmp_path / "events"
    told = {"TEST_EVENTS": str(path), "TEST_MOMENT": "module"}
    numbers = [f"number {number}" for number in range(8)]
    with (
        sender(redis_url, redis_url) as app,
        running_worker("observed", "-P", pool, "-c", "4", broker=redis_url, backend=redis_url, **told) as worker,
    ):
        # What is no failure is not reported: it comes first, so that it would be by the end.
        app.send_task("observed.control", ["ignore"])
        app.send_task("observed.control", ["reject"])
        assert app.send_task("observed.control", ["retry"]).get(timeout=90) == "retry"
        for number in numbers:
            app.send_task("observed.fail_with_tag", [number])
        app.send_task("observed.relay")
        eventually(lambda: len(events(path)) >= len(numbers) + 4, explain=lambda: worker.log)
        assert worker.stop() == 0
    found = events(path)
    assert {event["transaction"] for event in found} == {"observed.fail_with_tag", "observed.relay"}
    failed = [event for event in found if "exception" in event]
    values = [event["exception"]["values"][-1]["value"] for event in failed]
    assert sorted(values) == sorted([*numbers, "with us", "by itself", "by itself"])
    for event, value in zip(failed, values, strict=True):
        assert (event["tags"]["number"], event["tags"]["child"]) == (value, value)
    assert len({event["tags"]["celery_task_id"] for event in failed}) == len(failed)
    [relayed] = [event["contexts"]["trace"]["trace_id"] for event in found if "exception" not in event]
    traces: dict[str, list[str]] = {}
    for event, value in zip(failed, values, strict=True):
        traces.setdefault(event["contexts"]["trace"]["trace_id"], []).append(value)
    assert traces[relayed] == ["with us"]
