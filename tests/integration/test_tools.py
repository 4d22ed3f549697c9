"""Celery's tools beside one gevent worker: `celery multi`, which starts it, Flower, `inspect` and `control`."""

import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult

from tests import services
from tests.integration.test_observability import HOST, free_port_of_ours
from tests.integration.workers import Worker, sender
from tests.waiting import eventually

pytestmark = [pytest.mark.services, pytest.mark.timeout(420)]

APP = "tests.integration.apps.tools"
SECRET = "secret-of-tools-5e1c"


@dataclass(frozen=True)
class Multi:
    """A worker that `celery multi` has started, and who sends to it."""

    app: Celery
    url: str
    log: Path
    environment: dict[str, str]

    def wait(self) -> AsyncResult:
        """Send a task that does not end by itself, and wait until it runs."""
        sent: AsyncResult = self.app.send_task("watched.wait", ["ada", SECRET])
        eventually(lambda: any(task["id"] == sent.id for task in self.inspected("active")), explain=self.log.read_text)
        return sent

    def inspected(self, what: str) -> Any:
        """Return what the worker says of itself."""
        return eventually(getattr(self.app.control.inspect(timeout=10, limit=1), what))["tools@here"]


def run(*arguments: str, **environment: str) -> str:
    """Run a `celery` command to its end, and return what it says."""
    command = Worker([*arguments], environment)
    try:
        assert command.wait() == 0, command.log
        return command.log
    finally:
        command.end()


@pytest.fixture(scope="module")
def multi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Multi]:
    folder = tmp_path_factory.mktemp("multi")
    log, pid = folder / "log", folder / "pid"
    files = (f"--pidfile={pid}", f"--logfile={log}")
    with services.redis_database() as url, sender(url, url) as app:
        environment = {"TEST_BROKER_URL": url, "TEST_BACKEND_URL": url}
        options = ("-l", "INFO", "-P", "gevent", "-c", "2", "-E", "--disable-prefetch", "--without-mingle")
        run("multi", "start", "tools@here", "-A", APP, *options, *files, **environment)
        try:
            eventually(lambda: log.exists() and "ready." in log.read_text(), explain=log.read_text)
            yield Multi(app, url, log, environment)
            run("multi", "stopwait", "tools@here", *files, **environment)
            assert not pid.exists()
            assert "Traceback" not in log.read_text()
            assert SECRET not in log.read_text()
        finally:
            with suppress(FileNotFoundError, ProcessLookupError):
                os.kill(int(pid.read_text()), signal.SIGKILL)


@contextmanager
def flower(multi: Multi) -> Iterator[str]:
    """Run Flower, and lend its address."""
    port = free_port_of_ours()
    options = (f"--address={HOST}", f"--port={port}")
    process = Worker(["-A", APP, "flower", *options], {**multi.environment, "FLOWER_UNAUTHENTICATED_API": "1"})
    try:
        yield f"http://{HOST}:{port}"
    finally:
        process.end()


def ask(url: str, method: str = "GET") -> str:
    """Return what Flower answers; nothing if it does not, or knows of nothing."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, method=method), timeout=60) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        error.close()
        return ""
    except OSError:
        return ""


def test_flower_shows_a_task_with_masked_arguments_and_revokes_it(multi: Multi) -> None:
    with flower(multi) as address:
        # From here on it hears what the worker tells.
        eventually(lambda: 'flower_worker_online{worker="tools@here"} 1.0' in ask(f"{address}/metrics"))
        sent = multi.wait()
        shown = eventually(
            lambda: (text := ask(f"{address}/api/task/info/{sent.id}")) and '"STARTED"' in text and json.loads(text)
        )
        assert (shown["name"], shown["args"], shown["kwargs"]) == ("watched.wait", "('ada', '***')", "{}")

        assert sent.id in ask(f"{address}/api/task/revoke/{sent.id}?terminate=true", "POST")
        with pytest.raises(TaskRevokedError):
            sent.get(timeout=90)
        eventually(lambda: '"REVOKED"' in ask(f"{address}/api/task/info/{sent.id}"))

        assert multi.app.send_task("watched.add", [1, 2]).get(timeout=90) == 3
        counted = 'flower_events_total{task="watched.add",type="task-succeeded",worker="tools@here"} 1.0'
        eventually(lambda: counted in ask(f"{address}/metrics"))
        assert SECRET not in ask(f"{address}/api/tasks") + ask(f"{address}/tasks") + ask(f"{address}/task/{sent.id}")


def test_inspect_and_control(multi: Multi) -> None:
    sent = multi.wait()
    here = ("-A", APP)
    listed = run(*here, "inspect", "active", "--json", "--timeout=60", "-d", "tools@here", **multi.environment)
    [active] = json.loads(listed[listed.index("{") :])["tools@here"]
    assert (active["id"], active["args"]) == (sent.id, "('ada', '***')")
    assert multi.inspected("registered") == ["watched.add", "watched.wait"]
    assert multi.inspected("stats")["pool"]["max-concurrency"] == 2
    assert [queue["name"] for queue in multi.inspected("active_queues")] == ["celery"]

    multi.app.control.add_consumer("other", reply=True, timeout=60, destination=["tools@here"])
    result = multi.app.send_task("watched.add", [1, 2], queue="other")
    assert result.get(timeout=90) == 3
    control = (*here, "control", "--timeout=60", "-d", "tools@here")
    assert "OK" in run(*control, "terminate", "TERM", sent.id, **multi.environment)
    with pytest.raises(TaskRevokedError):
        sent.get(timeout=90)


def test_without_prefetch_what_cannot_run_yet_stays_in_the_queue(multi: Multi) -> None:
    waiting = [multi.wait(), multi.wait()]
    others = [multi.app.send_task("watched.add", [1, number]) for number in range(3)]
    with redis.Redis.from_url(multi.url) as server:
        assert multi.inspected("reserved") == []
        assert server.llen("celery") == 3
    for sent in waiting:
        sent.revoke(terminate=True)
    assert [sent.get(timeout=90) for sent in others] == [1, 2, 3]
