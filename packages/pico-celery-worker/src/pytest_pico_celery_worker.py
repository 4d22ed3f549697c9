"""Fixtures for tests of tasks; pytest finds them by itself.

This stands outside of pico_celery_worker, whose modules a container imports all, also where there is no pytest.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pico_ioc import PicoContainer

    from pico_celery_worker.testing import TaskRunner


@pytest.fixture
def task_runner() -> "Iterator[Callable[..., TaskRunner]]":
    """Make and enter a `TaskRunner`, with its arguments; the end of the test is its end."""
    # Not before a test asks for it: in every other run, Celery would be imported for nothing, and before a conftest.py
    # could let gevent patch Python.
    from pico_celery_worker.testing import TaskRunner  # noqa: PLC0415

    with ExitStack() as runners:

        def start(*args: Any, **options: Any) -> TaskRunner:
            return runners.enter_context(TaskRunner(*args, **options))

        yield start


@pytest.fixture
def assert_redeliverable() -> "Callable[[Callable[[Callable[[PicoContainer], TaskRunner]], object]], None]":
    """Assert that tasks bear being run twice: `pico_celery.testing.assert_redeliverable`."""
    from pico_celery_worker.testing import assert_redeliverable  # noqa: PLC0415  # as above

    return assert_redeliverable
