"""A result that cannot be encoded is told with its task, the place in it, and the cure."""

import pickle
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from kombu.exceptions import EncodeError

from pico_celery_core.failures.backend import store_failures_in_full
from pico_celery_core.failures.encoding import ResultEncodingError


class Blob:
    pass


@pytest.fixture
def backend() -> Any:
    app = Celery("tests", backend="cache+memory://", set_as_current=False)
    store_failures_in_full(app)
    return app.backend


REQUEST = SimpleNamespace(task="orders.report", chord=None, ignore_result=False)


def store(backend: Any, value: object) -> ResultEncodingError:
    with pytest.raises(ResultEncodingError) as error:
        backend.mark_as_done("an-id", value, REQUEST)
    return error.value


@pytest.mark.parametrize(
    ("value", "place", "kind"),
    [
        (Blob(), "result", "Blob"),
        ({1}, "result", "set"),
        ({"lines": [1, (2, Blob())]}, "result['lines'][1][1]", "Blob"),
        ({(1, 2): 3}, "result", "dict"),
    ],
)
def test_it_names_the_task_and_the_place(backend, value, place, kind):
    error = store(backend, value)
    assert (error.task, error.place, error.kind, error.serializer) == ("orders.report", place, kind, "json")
    assert str(error).startswith(
        f"The result of task 'orders.report' cannot be stored: the json serializer cannot encode {place}, a {kind}."
    )
    assert error.__cause__ is None
    assert error.__context__ is None


def test_it_is_what_celery_fails_a_task_for_and_survives_a_pickle(backend):
    error = store(backend, Blob())
    assert isinstance(error, EncodeError)
    assert isinstance(error, TypeError)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_it_survives_the_result_backend(backend):
    error = store(backend, Blob())
    backend.mark_as_failure("an-id", error)
    found = backend.get_result("an-id")
    assert type(found) is ResultEncodingError
    assert str(found) == str(error)


def test_a_long_place_is_cut(backend):
    assert len(store(backend, {"x" * 10_000: Blob()}).place) == 200


def test_a_result_that_can_be_encoded_is_stored(backend):
    backend.mark_as_done("an-id", {"lines": [1]}, REQUEST)
    assert backend.get_result("an-id") == {"lines": [1]}
