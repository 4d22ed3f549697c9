"""The demo does what its newcomer is promised, and leaves nothing behind however it ends."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the demo's broker of files needs a Unix system")


class Demo:
    """A running demo, and what it has said so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.output = ""

    def read_until(self, text: str) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.output += line
            if text in line:
                return
        pytest.fail(f"{text!r} did not come:\n{self.output}")

    def finish(self) -> int:
        assert self.process.stdout
        self.output += self.process.stdout.read()
        return self.process.wait()

    def interrupt(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    @property
    def worker(self) -> int:
        found = re.search(r"Started a worker, process (\d+)", self.output)
        assert found, self.output
        return int(found[1])

    def worker_runs(self) -> bool:
        try:
            os.kill(self.worker, 0)
        except ProcessLookupError:
            return False
        return True


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


@pytest.fixture
def demo(tmp_path: Path, temporary: Path) -> Iterator[Callable[..., Demo]]:
    """Start the demo without a terminal; what stands in `tmp_path` can be imported there."""
    started: list[Demo] = []

    def start(*arguments: str, **environment: str) -> Demo:
        kept = {name: value for name, value in os.environ.items() if "BROKER" not in name and "BACKEND" not in name}
        path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
        process = subprocess.Popen(
            [sys.executable, "-m", "examples.quickstart", *arguments],
            cwd=ROOT,
            env={**kept, "PYTHONPATH": path, "TMPDIR": str(temporary), "COLUMNS": "100", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(Demo(process))
        return started[-1]

    yield start
    for each in started:
        with each.process as process:
            process.kill()
        if "Started a worker" in each.output and each.worker_runs():
            os.killpg(each.worker, signal.SIGKILL)


@contextmanager
def nothing_left_of(demo: Demo, temporary: Path) -> Iterator[None]:
    yield
    assert not demo.worker_runs()
    assert not list(temporary.iterdir())


def test_fifty_jobs_take_about_as_long_as_one(demo, temporary):
    running = demo()

    with nothing_left_of(running, temporary):
        assert running.finish() == 0, running.output
    assert "50/50" in running.output
    assert re.search(r"│ +1 │ To customer1@shop.example: Order 1 is confirmed. +│ +\d+\.\d\d s │", running.output)
    assert re.search(r"│ +50 │ To customer50@shop.example: Order 50 is confirmed. ", running.output)
    total = re.search(r"50 orders in (\d+\.\d+) s", running.output)
    assert total
    assert 1 <= float(total[1]) < 50
    assert "one after another they would take 50 s" in running.output


def test_a_broker_of_the_environment_is_used(demo, temporary, redis_url):
    running = demo("--orders", "3", CELERY_BROKER_URL=redis_url, CELERY_BACKEND_URL=redis_url)

    with nothing_left_of(running, temporary):
        assert running.finish() == 0, running.output
    assert "through the broker that CELERY_BROKER_URL names" in running.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["Started a worker", "The worker is ready"])
def test_an_interruption_stops_everything(demo, temporary, moment, number):
    running = demo()
    running.read_until(moment)

    running.interrupt(number)

    with nothing_left_of(running, temporary):
        assert running.finish() == 130
    assert "Interrupted; everything is stopped." in running.output
    assert "Traceback" not in running.output


def test_a_second_interruption_does_not_wait_for_a_worker_that_hangs(demo, temporary, tmp_path):
    hangs = tmp_path / "hangs"
    os.mkfifo(hangs)
    (tmp_path / "stubborn.py").write_text(
        "import signal, sys\n"
        "if 'celery' in sys.argv[0]:\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"    open({str(hangs)!r}, 'w').close()\n"
        "    while True: signal.pause()\n"
    )
    running = demo(CELERY_IMPORTS="stubborn")
    running.read_until("Started a worker")
    with hangs.open():  # opens when the worker opens it too
        running.interrupt(signal.SIGINT)
        running.read_until("Stopping the worker")
        running.interrupt(signal.SIGINT)

        with nothing_left_of(running, temporary):
            assert running.finish() == 130
    assert "Traceback" not in running.output


def test_a_worker_that_cannot_start_is_explained_by_its_log(demo, temporary):
    running = demo(CELERY_IMPORTS="not_there_at_all")

    with nothing_left_of(running, temporary):
        assert running.finish() == 1
    assert "No module named 'not_there_at_all'" in running.output
    assert "WorkerEndedError: The worker ended with exit code 1." in running.output


def test_a_worker_that_dies_ends_the_demo(demo, temporary):
    running = demo()
    running.read_until("The worker is ready")

    os.kill(running.worker, signal.SIGKILL)

    with nothing_left_of(running, temporary):
        assert running.finish() == 1
    assert "celery@" in running.output, "the log is shown"
    assert "WorkerEndedError: The worker ended with exit code -9." in running.output


def test_a_task_that_fails_is_shown_and_fails_the_demo(demo, temporary, tmp_path):
    (tmp_path / "broken_mailer.py").write_text(
        "from examples.quickstart.services import Mailer\n"
        "async def send(self, to, text): raise OSError('mail server is away')\n"
        "Mailer.send = send\n"
    )
    running = demo("--orders", "2", CELERY_IMPORTS="broken_mailer")

    with nothing_left_of(running, temporary):
        assert running.finish() == 1
    assert re.search(r"│ +2 │ OSError: mail server is away", running.output)
    assert "raised unexpected: OSError('mail server is away')" in running.output
    assert "Failed: OSError: mail server is away" in running.output


def test_a_job_that_hangs_is_cut_off(demo, temporary):
    running = demo("--orders", "1", "--deadline", "0.9")

    with nothing_left_of(running, temporary):
        assert running.finish() == 1
    assert "TimeoutError: Not done within 0.9 seconds." in running.output
