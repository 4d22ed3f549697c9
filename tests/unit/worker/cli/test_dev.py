"""`celery -A app pico dev`: a worker is replaced when the code changes."""

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pico_celery_worker.cli import dev as module
from pico_celery_worker.cli.dev import Reloader, dev
from tests.waiting import eventually

# Stands for `celery`: a worker that notes what becomes of it, and a check with a given outcome.
PROGRAM = """
import os, signal, sys, time

log = open(sys.argv[1], "a", buffering=1)
what = sys.argv[2]
if what == "check":
    print("checked", file=log)
    sys.exit(int(open(sys.argv[3]).read()))

def end(number, _):
    print(f"{signal.Signals(number).name} {os.getpid()}", file=log)
    if what == "worker" or number == signal.SIGQUIT and what == "busy":
        sys.exit(0)

signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGQUIT, end)
print(f"started {os.getpid()}", file=log)
while True:
    time.sleep(0.01)
"""


class Program:
    def __init__(self, folder: Path) -> None:
        self.file, self.log, self.outcome = folder / "program.py", folder / "log", folder / "outcome"
        self.file.write_text(textwrap.dedent(PROGRAM))
        self.log.touch()
        self.outcome.write_text("0")
        self.told: list[str] = []

    def reloader(self, what: str = "worker", grace: float = 60) -> Reloader:
        return Reloader(
            (str(self.log), what),
            (str(self.log), "check", str(self.outcome)),
            grace,
            self.told.append,
        )

    def lines(self) -> list[str]:
        return [line.partition(" ")[0] for line in self.log.read_text().splitlines()]

    def started(self, times: int) -> None:
        eventually(lambda: self.lines().count("started") == times)


@pytest.fixture
def program(tmp_path, monkeypatch) -> Program:
    program = Program(tmp_path)
    monkeypatch.setattr(module, "_celery", lambda words: [sys.executable, str(program.file), *words])
    return program


def test_for_each_change_the_app_is_checked_and_the_worker_replaced_softly(program):
    def changes() -> Iterator[set[tuple[Any, str]]]:
        program.started(1)
        yield {(1, str(Path("shop/tasks.py").resolve())), (2, str(Path("shop/app.py").resolve()))}
        program.started(2)

    reloader = program.reloader()
    reloader.run(changes())
    assert program.lines() == ["checked", "started", "checked", "SIGTERM", "started", "SIGTERM"]
    assert reloader.process is None
    assert program.told == ["Changed: shop/app.py, shop/tasks.py"]


def test_while_the_code_has_an_error_the_last_worker_goes_on(program):
    def changes() -> Iterator[set[tuple[Any, str]]]:
        program.started(1)
        program.outcome.write_text("2")
        yield {(1, "a.py")}
        assert program.lines() == ["checked", "started", "checked"]
        program.outcome.write_text("1")  # findings
        yield {(1, "a.py")}
        program.started(2)

    program.reloader().run(changes())
    assert "The app cannot be loaded. The last worker goes on." in program.told
    assert program.lines().count("SIGTERM") == 2


def test_an_app_that_cannot_be_loaded_from_the_start_is_waited_for(program):
    program.outcome.write_text("2")
    reloader = program.reloader()
    reloader.run(iter(()))
    assert program.told == ["The app cannot be loaded. There is no worker."]
    assert program.lines() == ["checked"]


@pytest.mark.parametrize(("what", "last"), [("busy", "SIGQUIT"), ("stuck", "SIGQUIT")])
def test_a_worker_that_does_not_end_is_ended(program, what, last):
    reloader = program.reloader(what, grace=0.3)
    reloader.restart()
    program.started(1)
    reloader.stop()
    assert program.lines()[-2:] == ["SIGTERM", last]
    assert "The worker has not ended within 0.3 s after SIGTERM." in program.told


def test_a_worker_that_has_ended_by_itself_is_started_again(program):
    reloader = program.reloader()
    reloader.restart()
    program.started(1)
    assert reloader.process is not None
    reloader.process.kill()
    reloader.process.wait()
    reloader.restart()
    program.started(2)
    reloader.stop()


def test_the_command_gives_celery_what_it_was_given(monkeypatch):
    seen: list[Any] = []
    monkeypatch.setattr(sys, "argv", ["celery", "-A", "shop", "pico", "dev", "-c", "10"])
    monkeypatch.setattr(Reloader, "run", lambda self, _: seen.append((self._worker, self._check, self._grace)))
    monkeypatch.setattr(module.signal, "signal", lambda *_: None)
    check = ("-A", "shop", "pico", "check")
    for words in (["-c", "10"], ["-P", "solo", "--grace", "3"], ["--pool=x"], ["-Pthreads"]):
        done = CliRunner().invoke(dev, words, obj=type("Context", (), {"echo": print}))
        assert done.exit_code == 0, done.output
    assert seen == [
        (("-A", "shop", "worker", "-P", "gevent", "-c", "10"), (*check, "--pool", "gevent"), 10),
        (("-A", "shop", "worker", "-P", "solo"), (*check, "--pool", "solo"), 3),
        (("-A", "shop", "worker", "--pool=x"), check, 10),
        (("-A", "shop", "worker", "-Pthreads"), (*check, "--pool", "threads"), 10),
    ]


def test_without_watchfiles_it_says_what_to_install(monkeypatch):
    def refuse(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(module, "import_module", refuse)
    done = CliRunner().invoke(dev, [], obj=object())
    assert done.exit_code == 1
    assert "pip install pico-celery-worker[dev]" in done.output
