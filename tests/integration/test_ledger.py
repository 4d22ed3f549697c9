"""A short ledger: tests/ledger.py tells what it is, and runs long ones."""

import pytest
from rich.console import Console

from tests import ledger
from tests.integration.stations import KINDS


@pytest.mark.services
@pytest.mark.timeout(420)
@pytest.mark.parametrize("kind", KINDS)
def test_everything_is_accounted_for(kind: str) -> None:
    account, workers = ledger.run(kind, tasks=500, rate=40, workers=2, seed=2026)
    Console().print(account.table(f"The ledger of {kind}"))
    assert account.problems == [], "\n\n".join(worker.log for worker in workers)
    assert len(account.faults) >= 3
    assert len(account.accepted) >= 400
