"""Dead letters, without a broker that keeps them."""

from typing import Any

import pytest

from pico_celery_worker.consumer import consumer, request
from pico_celery_worker.dead_letters import Reason


class Letters:
    """What would have been kept, and whether it can be."""

    def __init__(self) -> None:
        self.kept: list[tuple[Any, BaseException, Reason]] = []
        self.can_be_kept = True
        self.answers: list[str] = []

    def keep(self, app: Any, message: Any, error: BaseException, reason: Reason, traceback: str = "") -> bool:
        self.kept.append((message, error, reason))
        self.answers += getattr(message.channel, "answers", [])
        return self.can_be_kept

    @property
    def reasons(self) -> list[Reason]:
        return [reason for _, _, reason in self.kept]


@pytest.fixture(autouse=True)
def letters(monkeypatch: pytest.MonkeyPatch) -> Letters:
    """What the consumer and the requests of a test have kept as dead letters."""
    letters = Letters()
    for module in (consumer, request):
        monkeypatch.setattr(module, "keep", letters.keep)
    return letters
