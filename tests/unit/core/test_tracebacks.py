"""Tracebacks that show where an error comes from, and no argument."""

import traceback
from types import ModuleType
from typing import Any

import pytest

from pico_celery_core.tracebacks import begin_in_handler, drop_frames


def plumbing(name: str, call: Any) -> Any:
    """Return what calls a function, in a module of this name."""
    module = ModuleType(name)
    vars(module)["call"] = call
    exec("def pass_on(*args): return call(*args)\ndef fail(): raise ValueError('internal')", vars(module))
    return module


def fail(*args: Any) -> None:
    raise LookupError("the handler's")


def fail_with_cause(*args: Any) -> None:
    try:
        worker.pass_on(*args)
    except LookupError as error:
        raise KeyError("another") from error


worker = plumbing("pico_celery_worker.x", fail)
celery = plumbing("celery.x", worker.pass_on)


def changed(change: Any, call: Any, *args: Any) -> Exception:
    """Return what a call raises, changed, without this function's frame."""
    with pytest.raises((LookupError, ValueError, TypeError)) as raised:
        call(*args)
    error: Exception = raised.value
    assert error.__traceback__ is not None
    error.__traceback__ = error.__traceback__.tb_next
    change(error)
    return error


def functions(error: BaseException | None) -> list[str]:
    """Return the functions of an error's traceback."""
    assert error is not None
    return [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)]


def test_a_traceback_begins_in_the_handler():
    assert functions(changed(begin_in_handler, celery.pass_on)) == ["fail"]


def test_so_do_those_of_what_it_comes_of():
    error = changed(begin_in_handler, plumbing("celery.y", fail_with_cause).pass_on)
    assert functions(error) == ["fail_with_cause"]
    assert functions(error.__cause__) == ["fail_with_cause", "pass_on", "fail"], "which itself calls plumbing"


def test_a_module_whose_name_begins_like_one_of_ours_is_somebody_elses():
    assert functions(changed(begin_in_handler, plumbing("celery_app", fail).pass_on)) == ["pass_on", "fail"]


@pytest.mark.parametrize(("name", "args", "kept"), [("fail", [], ["fail"]), ("pass_on", ["the-secret"], [])])
def test_where_no_handler_had_a_part_the_last_frame_is_kept_unless_it_has_the_arguments(name, args, kept):
    function = getattr(plumbing("pico_celery_worker.z", None), name)
    assert functions(changed(begin_in_handler, function, *args)) == kept


def test_an_error_may_have_no_traceback_at_all():
    error = changed(drop_frames, plumbing("celery.y", fail_with_cause).pass_on)
    assert (functions(error), functions(error.__cause__)) == ([], [])


def test_a_plain_raise_adds_no_frame():
    """Fails when Python no longer does what makes a frame with arguments vanish from its own error."""

    def raise_again(*args: Any) -> None:
        try:
            fail(*args)
        except LookupError as error:
            drop_frames(error)
            raise

    with pytest.raises(LookupError) as raised:
        raise_again("the-secret")
    assert functions(raised.value) == ["test_a_plain_raise_adds_no_frame"]
