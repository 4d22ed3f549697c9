"""Fixtures for tests of code that sends tasks; pytest finds them by itself.

This stands outside of pico_celery_client, whose modules a container imports all, also where there is no pytest.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pico_celery_client.testing import RecordingCelery


@pytest.fixture
def recording_celery() -> "Iterator[RecordingCelery]":
    """A `RecordingCelery` for one test, which in the end looks for results set up under misspelt names."""
    # Not before a test asks for it: in every other run, Celery would be imported for nothing, and before a conftest.py
    # could let gevent patch Python.
    from pico_celery_client.testing import RecordingCelery  # noqa: PLC0415

    with RecordingCelery() as celery:
        yield celery
        celery.verify()
