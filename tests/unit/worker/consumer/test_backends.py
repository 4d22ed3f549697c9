"""A message whose sender looks for the result elsewhere draws a warning, once."""

import pytest
from celery import Celery

from pico_celery_core.backends import BACKEND_HEADER
from pico_celery_worker.consumer.backends import compare_backends


@pytest.fixture
def app() -> Celery:
    return Celery("tests", backend="redis://:s3cret@localhost:6379/1", set_as_current=False)


def warnings_of(caplog, app, *theirs):
    for address in theirs:
        compare_backends(app, "orders.confirm", {} if address is None else {BACKEND_HEADER: address})
    return caplog.messages


def test_another_backend_draws_one_warning_that_names_both(caplog, app):
    (warning,) = warnings_of(caplog, app, *["redis://cache:6379/3"] * 3)
    assert "orders.confirm" in warning
    assert "'redis://cache:6379/3'" in warning
    assert "'redis://localhost:6379/1'" in warning
    assert "backend_url" in warning
    assert "s3cret" not in warning


@pytest.mark.parametrize("theirs", ["redis://localhost:6379/1", None, 7])
def test_the_same_backend_and_a_sender_that_tells_none_draw_no_warning(caplog, app, theirs):
    assert warnings_of(caplog, app, theirs) == []


def test_a_worker_that_keeps_no_results_says_so(caplog):
    (warning,) = warnings_of(caplog, Celery("tests", set_as_current=False), "redis://cache:6379/3")
    assert "this worker stores none" in warning


def test_what_a_message_says_is_bounded_and_cannot_forge_lines(caplog, app):
    warnings = warnings_of(caplog, app, *(f"{number}\n\x1b[31mforged{'x' * 10_000}" for number in range(1000)))
    assert len(warnings) == 100
    assert all(len(warning) < 1000 and "\n" not in warning and "\x1b" not in warning for warning in warnings)
