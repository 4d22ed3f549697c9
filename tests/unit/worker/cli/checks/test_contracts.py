"""What clients elsewhere send, as their contract tells, held against the handlers."""

from dataclasses import dataclass

import pytest
from pico_ioc import component
from pydantic import BaseModel

from pico_celery import CeleryClient, celery, send_task, task
from pico_celery_core.contract.file import read_contract, write_contract
from pico_celery_worker.cli.checks import Finding, Severity
from pico_celery_worker.cli.checks.contracts import check, check_promises
from pico_celery_worker.cli.inspection import inspect_app
from tests.unit.worker.applications import app_of


class Parcel(BaseModel):
    weight: float
    note: str = ""


class Weighed(BaseModel):
    weight: float
    colour: str


@dataclass
class Receipt:
    price: int


class Reply(BaseModel):
    price: int
    paid: bool


@component(scope="prototype")
class Parcels:
    @task("parcels.weigh", bind=True)
    async def weigh(self, this, parcel: Parcel) -> Receipt:
        return Receipt(1)

    @task("parcels.colour")
    async def colour(self, parcel: Weighed) -> None: ...

    @task("parcels.untyped", typed=False)
    async def untyped(self, parcel: Weighed) -> None: ...


class Elsewhere(CeleryClient):
    """Of a client whose models are older, or newer."""

    @send_task("parcels.weigh")
    def weigh(self, parcel: Parcel) -> Receipt: ...

    @send_task("parcels.weigh")
    def reply(self, parcel: Parcel) -> Reply: ...

    @send_task("parcels.colour")
    def colour(self, parcel: Parcel) -> None: ...

    @send_task("parcels.untyped")
    def untyped(self, parcel: Parcel) -> None: ...


@pytest.fixture
def found() -> dict[str, Finding]:
    inspection = inspect_app(app_of(Parcels))
    assert inspection
    contract = read_contract(write_contract([Elsewhere]))
    errors = [finding for finding in check_promises(inspection, contract) if finding.severity is Severity.ERROR]
    return {finding.where.rpartition(".")[2]: finding for finding in errors}


@celery
class Here(CeleryClient):
    @send_task("parcels.late")
    def late(self, parcel: "Missing") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    @send_task("parcels.late", typed=False)
    def raw(self, parcel: "Missing") -> None: ...  # type: ignore[name-defined]  # noqa: F821


def test_annotations_of_stubs_that_cannot_be_evaluated_are_told():
    inspection = inspect_app(app_of(Here, Parcels))
    assert inspection
    (told,) = [finding for finding in check(inspection) if finding.code == "untyped"]
    assert (told.where, told.severity) == (f"{__name__}.Here.late", Severity.WARNING)
    assert "'Missing'" in told.problem


def test_only_what_does_not_fit_is_told(found):
    assert found.keys() == {"reply", "colour"}


def test_a_field_that_the_handler_requires_and_the_client_does_not_send(found):
    name = f"{__name__}.Parcels.colour"
    assert found["colour"].problem == f"Its 'parcel' does not fit {name}: 'colour' is required, and is not sent."
    assert "a new field with a default" in found["colour"].hint


def test_a_field_that_the_client_expects_and_the_handler_does_not_return(found):
    assert found["reply"].problem.endswith("returns does not fit it: 'paid' is required, and is not sent.")
