"""Our lists of options against Celery's own. A test fails here when a new Celery takes another option."""

import inspect
from datetime import timedelta

import amqp
import pytest
from celery import Celery, Task
from celery.app import autoretry
from celery.app.task import extract_exec_options
from kombu import Producer

from pico_celery_core.errors import OptionValueError, UnknownOptionError
from pico_celery_core.options import (
    _EXECUTION_OPTIONS,
    SEND_OPTIONS,
    TASK_OPTIONS,
    TYPED,
    check_send_options,
    check_task_options,
)

# What Task offers to its users or keeps for itself: an option of that name would break the task.
NOT_TASK_OPTIONS = {
    "AsyncResult",
    "MaxRetriesExceededError",
    "OperationalError",
    "abstract",
    "add_around",
    "add_to_chord",
    "add_trail",
    "annotate",
    "app",
    "apply",
    "apply_async",
    "bind",
    "chunks",
    "delay",
    "from_config",
    "map",
    "name",
    "on_bound",
    "pop_request",
    "push_request",
    "replace",
    "request",
    "request_stack",
    "retry",
    "run",
    "s",
    "send_event",
    "si",
    "signature",
    "signature_from_request",
    "starmap",
    "start_strategy",
    "subtask",
    "subtask_from_request",
    "update_state",
}

# Set by ourselves, or by Celery's own callers alone.
NOT_SEND_OPTIONS = {
    "self",
    "name",
    "args",
    "kwargs",
    "result_cls",
    "publisher",  # the old name of producer
    "task_type",
    "replaced_task_nesting",
}
NOT_MESSAGE_OPTIONS = {
    "callbacks",  # send_task calls it link
    "errbacks",  # link_error
    "create_sent_event",
    "now",
    "timezone",
    "message",
    "event_dispatcher",
    "application_headers",  # Celery's are `headers`
    "cluster_id",  # deprecated by AMQP
    # the body is encoded by then; `serializer` and `compression` decide how
    "content_type",
    "content_encoding",
    "body",
}


@pytest.fixture(scope="module")
def app() -> Celery:
    return Celery(broker="memory://", set_as_current=False)


def parameters(function) -> set[str]:
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return {p.name for p in inspect.signature(function).parameters.values() if p.kind not in kinds}


def names_read_by(function) -> set[str]:
    """The names among the constants in a function's code: the options it looks up."""
    constants = function.__code__.co_consts
    return {constant for constant in constants if isinstance(constant, str) and constant.isidentifier()}


def test_execution_options_are_those_that_celery_sends_along(app):
    asked: list[str] = []

    class Recorder:
        def __getattr__(self, name):
            asked.append(name)

    extract_exec_options(Recorder())
    assert set(asked) == _EXECUTION_OPTIONS


def test_task_options_are_those_of_celery(app):
    attributes = {name for name in dir(Task) if not name.startswith("_")} - NOT_TASK_OPTIONS
    configured = {name for name, _ in Task.from_config}
    decorator = parameters(app._task_from_fun) - {"fun", "name"}
    retries = names_read_by(autoretry.add_autoretry_behaviour) - {"_orig_run"}
    sent = _EXECUTION_OPTIONS
    assert attributes | configured | decorator | retries | sent | {"override_max_retries", TYPED} == TASK_OPTIONS


def test_every_exclusion_is_still_an_attribute_of_a_task():
    assert {name for name in NOT_TASK_OPTIONS if name not in dir(Task)} == set()


def test_send_options_are_those_of_celery(app):
    send = parameters(Celery.send_task) - NOT_SEND_OPTIONS
    message = parameters(app.amqp.as_task_v2) | parameters(app.amqp.send_task_message)
    publication = parameters(Producer.publish) | {name for name, _ in amqp.Message.PROPERTIES}
    assert send | (message | publication) - NOT_SEND_OPTIONS - NOT_MESSAGE_OPTIONS == SEND_OPTIONS


def test_ignore_result_is_an_option_of_both():
    assert "ignore_result" in TASK_OPTIONS & SEND_OPTIONS


@pytest.mark.filterwarnings("ignore:\\s*The '[a-z_]+' task attribute is deprecated")
def test_a_task_takes_every_option(app):
    """Celery makes a task with each option that we let through."""

    def handler(): ...

    for option in sorted(TASK_OPTIONS):
        default = getattr(Task, option, None if option == "base" else 0 if "backoff" in option else ())
        task = app.task(name=f"tasks.{option}", lazy=False, shared=False, **{option: default})(handler)
        assert task.name == f"tasks.{option}"


def test_an_option_of_the_tasks_own_base_is_known():
    class Audited(Task):
        audit_level = 1

    check_task_options("@task('x')", {"base": Audited, "audit_level": 2})
    with pytest.raises(UnknownOptionError):
        check_task_options("@task('x')", {"audit_level": 2})


def test_a_stamp_is_known_where_the_headers_name_it():
    check_send_options("@send_task('x')", {"stamped_headers": ["tenant"], "tenant": "acme"})
    with pytest.raises(UnknownOptionError):
        check_send_options("@send_task('x')", {"tenant": "acme"})


@pytest.mark.parametrize("value", ["3", -1, float("nan"), timedelta(seconds=3)])
def test_a_time_to_send_is_a_number_of_seconds(value):
    with pytest.raises(OptionValueError) as error:
        check_send_options("@send_task('x')", {"publish_timeout": value})
    assert str(error.value) == (
        f"@send_task('x') got the option 'publish_timeout' with the value {value!r}. "
        "Give a number of seconds, or 0 for no limit."
    )


@pytest.mark.parametrize("value", [None, 0, 3, 0.5])
def test_the_time_to_send_may_be_left_to_the_setting_and_without_limit(value):
    check_send_options("@send_task('x')", {"publish_timeout": value})


@pytest.mark.parametrize("option", ["args", "kwargs", "result_cls", "task_type", "content_type"])
def test_what_the_client_says_itself_is_no_option(option):
    with pytest.raises(UnknownOptionError):
        check_send_options("@send_task('x')", {option: None})
