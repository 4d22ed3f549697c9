"""A client tells of annotations that say a type which values do not get."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from celery import Celery

from pico_celery_client import CeleryClient, celery
from pico_celery_client.__main__ import main
from pico_celery_core import send_task

if TYPE_CHECKING:
    from decimal import Decimal as Money


@celery
class Prices(CeleryClient):
    @send_task("prices.set")
    def set(self, price: "Money") -> None: ...

    @send_task("prices.reset", typed=False)
    def reset(self, price: "Money") -> None: ...


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("pico_celery")]


def test_it_tells_once_when_it_is_made(app: Celery, container: Callable, caplog: pytest.LogCaptureFixture):
    app.conf.get("task_default_queue")  # configured
    container(Prices).get(Prices).set(1)
    (text,) = told(caplog)
    assert text.startswith(
        f"{__name__}.Prices.set: The annotation of its parameter 'price', 'Money', cannot be evaluated: "
        "name 'Money' is not defined."
    )


def test_it_leaves_the_app_as_it_is_and_tells_at_the_first_call(app: Celery, container: Callable, caplog):
    client = container(Prices).get(Prices)
    assert not app.configured
    assert told(caplog) == []
    client.set(1)
    client.set(2)
    assert len(told(caplog)) == 1


def test_where_values_are_not_typed_nothing_is_told(app: Celery, container: Callable, caplog):
    app.conf.pico_typed_values = False
    container(Prices).get(Prices).set(1)
    assert told(caplog) == []


def test_the_contract_tells_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert main(["contract", __name__]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{__name__}.Prices.set: The annotation of its parameter 'price'")
