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
