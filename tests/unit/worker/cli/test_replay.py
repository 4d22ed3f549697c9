"""`celery -A app pico replay`, as it is typed."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner, Result
from pico_ioc import PicoContainer, component

from pico_celery import task
from pico_celery_worker.cli import replay as module
from pico_celery_worker.cli.commands import pico
from pico_celery_worker.dead_letters import DeadLetters, Reason
from pico_celery_worker.dead_letters.keeping import forget_connections, keep
from tests.unit.worker.applications import application
from tests.unit.worker.requests import message_of


@component
class Bank:
    async def charge(self, amount: int) -> str:
        return f"charged {amount}"


class NoBank:
    async def charge(self, amount: int) -> str:
        return f"would charge {amount}"


@component(scope="prototype")
class Payments:
    def __init__(self, bank: Bank) -> None:
        self.bank = bank

    @task("charge")
    async def charge(self, amount: int) -> str:
        if amount < 0:
            raise ValueError("less than nothing")
        return await self.bank.charge(amount)


def make_container(overrides: dict[Any, Any] | None = None) -> PicoContainer:
    return application(Bank, Payments, overrides=overrides)


def make_nothing() -> None: ...


Replay = Callable[..., Result]


@pytest.fixture
def app(redis_url: str) -> Iterator[Celery]:
    """An app with three dead letters: one that fits, one that fails, and one that is nothing."""
    app: Celery = application(Bank, Payments, settings={"broker_url": redis_url}).get(Celery)
    for task_id, amount in (("good", 100), ("bad", -1)):
        assert keep(app, message_of("charge", task_id, args=[amount]), ValueError("no"), Reason.ARGUMENTS)
    nothing = message_of("charge")
    nothing.headers = {}
    assert keep(app, nothing, ValueError("nothing"), Reason.MALFORMED)
    yield app
    forget_connections()
    app.close()


@pytest.fixture
def replay(app: Celery) -> Replay:
    def run(*arguments: str) -> Result:
        context = CLIContext(app=app, no_color=True, workdir=None, quiet=False)
        return CliRunner().invoke(pico, ["replay", *arguments], obj=context)

    return run


def test_a_letter_runs_and_stays(replay: Replay, app: Celery):
    assert replay("good").stdout == "charge[good] returned 'charged 100'\n"
    assert DeadLetters(app).count() == 3


def test_overrides_from_the_command_line(replay: Replay):
    container = ["--container", f"{__name__}:make_container"]
    assert replay("good", *container).stdout == "charge[good] returned 'charged 100'\n"
    override = ["--override", f"{__name__}:Bank={__name__}:NoBank"]
    assert replay("good", *container, *override).stdout == "charge[good] returned 'would charge 100'\n"


def test_overrides_in_a_file(replay: Replay, tmp_path: Path):
    file = tmp_path / "replaying.py"
    file.write_text(
        f"from {__name__} import Bank, NoBank, make_container\n"
        "def safe():\n    return make_container(overrides={Bank: NoBank()})\n"
    )
    assert replay("good", "--container", f"{file}:safe").stdout == "charge[good] returned 'would charge 100'\n"


def test_a_failure_is_shown(replay: Replay):
    result = replay("bad")
    assert result.exit_code == 1
    assert "ValueError: less than nothing" in result.stderr


def test_the_debugger_opens_where_the_task_fails(replay: Replay, monkeypatch: pytest.MonkeyPatch):
    seen: list[Any] = []

    def post_mortem(traceback: Any) -> None:
        while traceback.tb_next is not None:
            traceback = traceback.tb_next
        seen.append((traceback.tb_frame.f_code.co_name, traceback.tb_frame.f_locals["amount"]))

    monkeypatch.setattr(module.pdb, "post_mortem", post_mortem)
    assert replay("bad", "--pdb").exit_code == 1
    assert seen == [("charge", -1)]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["unknown"], 1, "There is no dead letter 'unknown'"),
        (["good", "--override", "a:B=c:D"], 2, "--override needs --container"),
        (["good", "--container", "make_container"], 2, "names no module"),
        (["good", "--container", "no.such:make"], 2, "no.such cannot be imported"),
        (["good", "--container", "no/such.py:make"], 2, "no/such.py cannot be imported"),
        (["good", "--container", f"{__name__}:nothing"], 2, "There is no 'nothing' in"),
        (["good", "--container", f"{__name__}:make_nothing"], 2, "returns a NoneType, and not a container"),
        (["good", "--container", f"{__name__}:make_container", "--override", "a:B"], 2, "write it as MODULE:KEY="),
    ],
)
def test_what_cannot_be_done_is_said(replay: Replay, arguments: list[str], code: int, said: str):
    result = replay(*arguments)
    assert result.exit_code == code
    assert said in " ".join(result.stderr.replace("│", " ").split())


def test_what_is_no_message_of_a_task_cannot_be_run(replay: Replay, app: Celery):
    (letter,) = DeadLetters(app).find(error="malformed")
    assert "is no message of a task" in replay(letter.id).stderr
