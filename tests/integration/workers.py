"""Real Celery processes, and what is needed to talk to them."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from celery import Celery

ROOT = Path(__file__).parents[2]


class Worker:
    """A `celery` process, a worker's or another, whose log can be waited for."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self.lines: list[str] = []
        self._ended = False
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "celery", *arguments],
            cwd=ROOT,
            env={**os.environ, **environment, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line)
                self._news.notify_all()
        self.process.stdout.close()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def wait_for_log(self, pattern: str, timeout: float = 90, *, after: int = 0) -> str:
        """Wait until a line of the log matches, and return it.

        Args:
            pattern: What to look for: a regular expression.
            timeout: How long to wait, in seconds.
            after: How many lines to leave out, such as those that were there before: `len(worker.lines)`.
        """
        deadline = time.monotonic() + timeout
        with self._news:
            while True:
                for line in self.lines[after:]:
                    if re.search(pattern, line):
                        return line
                after = max(after, len(self.lines))
                if self._ended:
                    raise AssertionError(f"The process ended before {pattern!r}:\n{self.log}")
                if not self._news.wait(max(deadline - time.monotonic(), 0)):
                    raise AssertionError(f"No {pattern!r} in the log within {timeout} s:\n{self.log}")

    def stop(self, number: int = signal.SIGTERM, timeout: float = 90) -> int:
        """Send a signal, and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait(timeout)

    def wait(self, timeout: float = 90) -> int:
        """Wait until the process has ended, and return the exit code."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"The process did not end within {timeout} s:\n{self.log}") from None
        self._reader.join(timeout)
        return code

    def end(self) -> None:
        """Leave nothing behind."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(60)


@contextmanager
def celery(command: str, app: str, *options: str, **environment: str) -> Iterator[Worker]:
    """Run a `celery` command, such as `worker` or `beat`, until the block ends.

    Args:
        command: Which.
        app: The module of the app, below tests/integration/apps.
        *options: Of the command.
        **environment: Further environment variables.
    """
    process = Worker(["-A", f"tests.integration.apps.{app}", command, "-l", "INFO", *options], environment)
    try:
        yield process
    finally:
        process.end()


@contextmanager
def running_worker(
    app: str, *options: str, broker: str, backend: str, queue: str = "celery", is_alone: bool = True, **environment: str
) -> Iterator[Worker]:
    """Run a worker until the block ends.

    Args:
        app: The module of the app, below tests/integration/apps.
        *options: Of `celery worker`, such as "-P", "gevent".
        broker: The broker's URL.
        backend: The result backend's URL.
        queue: The name of the app's queue.
        is_alone: Whether it does without asking other workers, and listening to them, which takes a second or more.
        **environment: Further environment variables.
    """
    variables = {"TEST_BROKER_URL": broker, "TEST_BACKEND_URL": backend, "TEST_QUEUE": queue, **environment}
    alone = ("--without-mingle", "--without-gossip") if is_alone else ()
    with celery("worker", app, *alone, *options, **variables) as worker:
        worker.wait_for_log(r"ready\.")
        yield worker


@contextmanager
def sender(broker: str, backend: str, queue: str = "celery") -> Iterator[Celery]:
    """Lend an app that sends, knows no tasks, and leaves no connection open."""
    app = Celery("sender", broker=broker, backend=backend, set_as_current=False)
    app.conf.task_default_queue = queue
    try:
        yield app
    finally:
        app.close()
        app.backend.result_consumer.stop()
        app.backend.client.close()
        # A result that is collected later would connect again, to unsubscribe.
        app.backend.remove_pending_result = lambda _: None
