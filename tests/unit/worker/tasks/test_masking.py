"""What is shown of arguments that a handler marks as sensitive."""

from typing import Annotated, Any

import pytest
from celery.exceptions import MaxRetriesExceededError
from celery.utils.saferepr import saferepr
from pico_ioc import component

from pico_celery_core.decorators import task
from pico_celery_core.metadata import task_spec
from pico_celery_core.sensitive import Sensitive
from pico_celery_worker.container.handlers import Handler
from pico_celery_worker.tasks.masking import HIDDEN, Mask, is_masked
from tests.unit.worker.applications import app_of
from tests.unit.worker.requests import message_of, request_of

SECRET = "the-secret"


@component(scope="prototype")
class Accounts:
    @task("masking.open")
    async def open(
        self, user: str, password: Annotated[str, Sensitive], *rest: Annotated[str, Sensitive], token: str = ""
    ) -> None: ...

    @task("masking.bound", bind=True)
    async def bound(
        self, task: Any, password: Annotated[str, Sensitive], **more: Annotated[str, Sensitive]
    ) -> None: ...

    @task("masking.few", max_retries=0)
    async def few(self, user: str, password: Annotated[str, Sensitive]) -> None: ...

    @task("masking.plain")
    async def plain(self, user: str) -> None: ...


def mask(method: str, **limits: Any) -> Mask:
    spec = task_spec(getattr(Accounts, method))
    assert spec is not None
    return Mask(Handler(key=Accounts, cls=Accounts, method=method, spec=spec), **limits)


@pytest.mark.parametrize(
    ("method", "args", "kwargs", "shown"),
    [
        ("open", ["ada", SECRET], {}, ("('ada', '***')", "{}")),
        ("open", ["ada"], {"password": SECRET, "token": "x"}, ("('ada',)", "{'password': '***', 'token': 'x'}")),
        ("open", ["ada", SECRET, SECRET, SECRET], {}, ("('ada', '***', '***', '***')", "{}")),
        ("open", [], {}, ("()", "{}")),
        ("bound", [SECRET], {"other": SECRET}, ("('***',)", "{'other': '***'}")),
        ("plain", ["ada"], {}, ("('ada',)", "{}")),
        # What fits no parameter may have been meant for one that is sensitive.
        ("few", ["ada", SECRET, SECRET], {"pasword": SECRET}, ("('ada', '***', '***')", "{'pasword': '***'}")),
    ],
)
def test_what_the_handler_marks_is_masked(method, args, kwargs, shown):
    found = mask(method).shown(args, kwargs)
    assert (found["argsrepr"], found["kwargsrepr"]) == shown
    assert is_masked(found) is (SECRET in repr((args, kwargs)))
    assert bool(mask(method)) is (method != "plain")


def test_what_is_shown_is_as_long_as_celery_would_show_it():
    args = ["ada" * 1000, SECRET]
    assert len(mask("few", maxlen=100).shown(args, {})["argsrepr"]) == len(saferepr(tuple(args), maxlen=100)) < 200


@pytest.mark.parametrize(
    ("headers", "shown"),
    [
        ({"argsrepr": f"('ada', '{SECRET}')", "kwargsrepr": "{}"}, "('ada', '***')"),
        ({"argsrepr": "('ada', '***')", "kwargsrepr": "{}"}, "('ada', '***')"),
        # Its sender masks something, and not what the handler marks.
        ({"argsrepr": f"('***', '{SECRET}')", "kwargsrepr": "{}"}, "***"),
        ({"argsrepr": "***", "kwargsrepr": "***"}, "***"),
        ({}, "('ada', '***')"),
    ],
)
def test_a_mask_that_a_sender_has_put_on_uncovers_nothing(headers, shown):
    assert mask("few").over(headers, ["ada", SECRET], {})["argsrepr"] == shown


def test_a_message_without_headers_is_not_masked():
    assert not is_masked(None)
    assert not is_masked({})


def test_a_request_shows_nothing_sensitive_whoever_sent_it():
    app = app_of(Accounts)
    request = request_of(app, message_of("masking.few", args=["ada", SECRET], argsrepr=f"('ada', '{SECRET}')"))
    assert (request.argsrepr, request.kwargsrepr) == ("('ada', '***')", "{}")
    assert request.request_dict["argsrepr"] == "('ada', '***')"
    assert SECRET not in repr(request.info())
    plain = request_of(app, message_of("masking.plain", args=["ada"], argsrepr="('ada',)"))
    assert plain.argsrepr == "('ada',)"


@pytest.mark.parametrize(("new", "shown"), [(None, "args:('ada', '***') kwargs:{}"), ((SECRET,), "args:***")])
def test_the_error_of_retries_that_are_used_up_shows_nothing_sensitive(new, shown):
    app = app_of(Accounts)
    few = app.tasks["masking.few"]
    request = request_of(app, message_of("masking.few", "an-id", args=["ada", SECRET]))
    few.push_request(**request.request_dict, called_directly=False)
    try:
        with pytest.raises(MaxRetriesExceededError) as raised:
            few.retry(new)
    finally:
        few.pop_request()
    assert str(raised.value).startswith("Can't retry masking.few[an-id] args:")
    assert shown in str(raised.value)
    assert SECRET not in repr(vars(raised.value))


def test_what_a_worker_sends_of_a_task_of_its_own_shows_nothing_sensitive():
    app = app_of(Accounts, broker_url="memory://")
    sent: list[Any] = []
    app.send_task = lambda *args, **options: sent.append(options)
    app.tasks["masking.few"].delay("ada", SECRET)
    app.tasks["masking.plain"].s("ada").apply_async()
    assert [options.get("argsrepr") for options in sent] == ["('ada', '***')", None]


def test_a_retry_with_other_arguments_shows_none_of_them():
    app = app_of(Accounts)
    few = app.tasks["masking.few"]
    few.push_request(**request_of(app, message_of("masking.few", args=["ada", SECRET])).request_dict)
    try:
        options = few.signature_from_request(None, ["eve", SECRET]).options
    finally:
        few.pop_request()
    assert {name: options[name] for name in HIDDEN} == HIDDEN
