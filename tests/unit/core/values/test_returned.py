"""What stubs and handlers declare to return."""

import copy
import pickle
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery
from pydantic import SecretStr

from pico_celery_core.errors import ResultTypeError
from pico_celery_core.values.returned import ReturnedValue, is_typed


def returned(annotation: Any, where: str = "stub") -> ReturnedValue:
    made = ReturnedValue.of("reports.build", annotation, where)
    assert made is not None
    return made


def test_a_value_is_plain_data_and_itself_again():
    took = returned(list[timedelta])
    assert took.dump([timedelta(hours=1)]) == ["PT1H"]
    assert took.load(["PT1H"]) == [timedelta(hours=1)]
    assert pickle.loads(pickle.dumps(took)) == copy.copy(took) == took


@pytest.mark.parametrize("annotation", [None, Any, object, dict])
def test_where_anything_may_come_nothing_is_checked(annotation):
    assert ReturnedValue.of("reports.build", annotation) is None


def test_a_value_of_another_type_names_task_type_and_path():
    with pytest.raises(ResultTypeError) as raised:
        returned(dict[str, int]).load({"pages": "many"})
    error = raised.value
    assert (error.task, error.expected, error.where) == ("reports.build", "dict[str, int]", "stub")
    assert str(error).startswith(
        "The value of task 'reports.build' does not fit dict[str, int], which its stub declares: pages: Input should"
    )
    assert "Let stub and handler declare the same type" in str(error)


def test_a_handler_that_breaks_its_promise_is_told_so():
    with pytest.raises(ResultTypeError, match=r"which its handler declares.*correct its return annotation"):
        returned(int, "handler").dump("x")
    with pytest.raises(ResultTypeError, match="a SecretStr does not round-trip through JSON"):
        returned(SecretStr, "handler").dump(SecretStr("x"))


@pytest.mark.parametrize(
    ("setting", "option", "typed"),
    [(None, None, True), (False, None, False), (False, True, True), (True, False, False)],
)
def test_the_option_wins_over_the_setting(setting, option, typed):
    app = Celery(set_as_current=False)
    if setting is not None:
        app.conf.pico_typed_values = setting
    assert is_typed(app, option) is typed
