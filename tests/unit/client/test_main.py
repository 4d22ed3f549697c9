"""`python -m pico_celery_client contract`."""

import json
import sys
from pathlib import Path

import pytest

from pico_celery_client.__main__ import main
from pico_celery_core.contract.file import read_contract

CLIENTS = """
from pico_celery import CeleryClient, celery, send_task

@celery
class Orders(CeleryClient):
    @send_task("orders.confirm")
    def confirm(self, order: int) -> str: ...
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"clients_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(CLIENTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return name


def test_the_contract_goes_to_the_standard_output(module: str, capsys: pytest.CaptureFixture[str]):
    assert main(["contract", module]) == 0
    (stub,) = read_contract(capsys.readouterr().out)
    assert (stub.task, str(stub.signature)) == ("orders.confirm", "(order: int) -> str")


def test_the_contract_goes_to_a_file(module: str, tmp_path: Path):
    assert main(["contract", module, module, "-o", str(tmp_path / "contract.json")]) == 0
    assert len(json.loads((tmp_path / "contract.json").read_text())["stubs"]) == 1


def test_a_module_without_clients_is_an_error(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["contract", "json"])
    assert ended.value.code == 2
    assert "no class with @send_task methods in json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "cannot import broken: there is no such module here"),
        ("import not_installed", "cannot import broken: it imports 'not_installed', which is not installed"),
        ("x = 1\n1 / 0", "broken.py, line 2: division by zero"),
    ],
)
@pytest.mark.usefixtures("module")
def test_a_module_that_cannot_be_imported_is_told_in_one_line(text, told, tmp_path, capsys):
    sys.modules.pop("broken", None)
    if text is not None:
        (tmp_path / "broken.py").write_text(text)
    with pytest.raises(SystemExit) as exit_:
        main(["contract", "broken"])
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
