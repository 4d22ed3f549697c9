"""Sensitive: which annotations carry the marker."""

from typing import Annotated, Any, Optional

import pytest

from pico_celery_core import Sensitive
from pico_celery_core.sensitive import is_sensitive


@pytest.mark.parametrize(
    "annotation",
    [
        Annotated[str, Sensitive],
        Annotated[str, Sensitive()],
        Annotated[str, "a note", Sensitive],
        Annotated[str, Sensitive] | None,
        Optional[Annotated[str, Sensitive]],  # noqa: UP045
        list[Annotated[str, Sensitive]],
        dict[str, list[Annotated[str, Sensitive]]],
        "Annotated[OnlyForTypeCheckers, Sensitive]",
    ],
)
def test_the_marker_is_found_wherever_it_stands(annotation: Any):
    assert is_sensitive(annotation)


@pytest.mark.parametrize("annotation", [str, None, Any, str | None, Annotated[str, "a note"], "OnlyForTypeCheckers"])
def test_other_annotations_do_not_carry_it(annotation: Any):
    assert not is_sensitive(annotation)
