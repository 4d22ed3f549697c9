"""Every error says what, where and what to do, and survives a pickle and Celery's result backends."""

import inspect
import json
import pickle

import pytest
from celery import Celery
from celery.backends.base import Backend

from pico_celery_core import errors
from pico_celery_core.errors import PicoCeleryError

ERRORS = [getattr(errors, name) for name in errors.__all__ if name != "PicoCeleryError"]


def example(error: type[PicoCeleryError]) -> PicoCeleryError:
    return error(*arguments(error).values())


def arguments(error: type[PicoCeleryError]) -> dict[str, object]:
    """Return a value for each of an error's parameters, one that tells them apart."""
    others: dict[object, object] = {float: 7.5, bool: True}
    parameters = inspect.signature(error).parameters.values()
    return {p.name: others.get(p.annotation, f"<{p.name}>") for p in parameters}


def same(one: BaseException, other: BaseException) -> bool:
    return (type(one), one.args, vars(one), str(one)) == (type(other), other.args, vars(other), str(other))


every_error = pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)


def test_all_errors_are_listed():
    defined = {
        name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, PicoCeleryError)
    }
    assert set(errors.__all__) == defined


@every_error
def test_an_error_keeps_its_data_as_attributes_of_the_same_name(error):
    made = example(error)
    assert vars(made) == arguments(error)


@every_error
def test_the_text_shows_all_data_and_ends_as_a_sentence(error):
    text = str(example(error))
    for value in arguments(error).values():
        assert isinstance(value, bool) or str(value) in text
    assert text.endswith((".", "?", "<hint>", ")."))


@every_error
def test_an_error_may_be_made_by_the_names_of_its_data(error):
    assert same(error(**arguments(error)), example(error))


def test_an_error_refuses_what_it_has_no_place_for():
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'signature'"):
        errors.CallError("stub", "task", "problem")


def test_the_signature_of_an_error_says_what_its_data_are():
    assert (
        str(inspect.signature(errors.UnknownOptionError)) == "(where: str, option: str, suggestion: str = '') -> None"
    )
    assert str(inspect.signature(errors.LossyModelError)) == str(inspect.signature(errors.ArgumentEncodingError))


def test_a_subclass_without_a_template_is_an_exception_as_any():
    class OtherError(PicoCeleryError): ...

    class Special(errors.CallError):
        def __init__(self, stub: str) -> None:
            super().__init__(stub, "task", "problem", "signature")

    assert str(OtherError("its text")) == "its text"
    assert str(Special("stub")) == str(errors.CallError("stub", "task", "problem", "signature"))


def test_an_error_has_the_hash_and_equality_of_an_exception():
    error = errors.TaskNameError("@task", "")
    assert {error} == {error}
    assert error != errors.TaskNameError("@task", "")


@every_error
def test_an_error_can_be_caught_as_the_builtin_it_is(error):
    assert issubclass(error, (TypeError, ValueError, RuntimeError, TimeoutError))


@every_error
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_a_pickle(error, protocol):
    made = example(error)
    assert same(pickle.loads(pickle.dumps(made, protocol)), made)


@every_error
@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_an_error_survives_a_result_backend(error, serializer):
    app = Celery(set_as_current=False)
    app.conf.update(result_serializer=serializer, accept_content=[serializer])
    backend = Backend(app)
    made = example(error)
    stored = backend.prepare_exception(made)
    if serializer == "json":
        stored = json.loads(json.dumps(stored))
    assert same(backend.exception_to_python(stored), made)
