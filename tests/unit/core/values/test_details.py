"""Details of progress are plain data on their way, and of a type again where one is asked for."""

import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel, SecretStr

from pico_celery_core.errors import ResultTypeError
from pico_celery_core.progress import Progress
from pico_celery_core.values import details as module
from pico_celery_core.values.details import plain_details, revived


class Stage(BaseModel):
    name: str
    left: timedelta


@dataclass
class Files:
    done: set[Path]


class Place(NamedTuple):
    line: int
    column: int


STAGE = Stage(name="drawing", left=timedelta(minutes=1))


@pytest.mark.parametrize(
    ("details", "kind"),
    [
        (None, Stage),
        (7, int),
        ("text", str),
        (STAGE, Stage),
        (Files({Path("a/b")}), Files),
        (Place(1, 2), Place),
        (timedelta(hours=1), timedelta),
        ([STAGE], list[Stage]),
        ({"one": STAGE}, dict[str, Stage]),
        ({Place(1, 2)}, set[Place]),
        ((STAGE, 3), tuple[Stage, int]),
        ({"any": 1}, dict),
    ],
)
def test_details_arrive_as_they_were_told(details: Any, kind: Any):
    plain = json.loads(json.dumps(Progress(1, 2, "x", plain_details("reports.build", details)).as_meta()))
    step = revived(Progress.from_meta(plain), "reports.build", kind)
    assert step == Progress(1, 2, "x", details)
    assert type(step.details) is type(details)


def test_what_does_not_fit_is_told_with_its_place():
    step = Progress(1, details={"name": "drawing", "left": "long"})
    with pytest.raises(ResultTypeError, match=r"does not fit Stage, which its reader declares: left: .*Ask for what"):
        revived(step, "reports.build", Stage)


def test_what_would_not_arrive_is_refused():
    class Secret(BaseModel):
        key: SecretStr

    with pytest.raises(ResultTypeError, match="does not round-trip through JSON"):
        plain_details("reports.build", Secret(key=SecretStr("x")))


def test_what_pydantic_knows_nothing_of_is_left_to_the_serializer():
    nothing = object()
    assert plain_details("reports.build", nothing) is nothing
    assert plain_details("reports.build", [nothing]) == [nothing]


def test_without_pydantic_they_are_left_as_they_are(monkeypatch):
    monkeypatch.setattr(module, "has_pydantic", lambda: False)
    assert plain_details("reports.build", STAGE) is STAGE
