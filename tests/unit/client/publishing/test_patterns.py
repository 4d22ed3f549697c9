"""Messages that are made like the one before them: how arguments are shown, and when Celery makes each."""

import functools
from typing import Any

import pytest
from celery import Celery, signals
from celery.app.amqp import AMQP
from celery.utils.saferepr import saferepr
from hypothesis import example, given
from hypothesis import strategies as st

from pico_celery_client.publishing.patterns import may_have_patterns, shown
from pico_celery_core.publishing_time import note_publishing_times

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)
LIMITS = {"maxlen": 1024, "maxlevels": 3}


@given(st.lists(values).map(tuple) | st.dictionaries(st.text(), values), st.sampled_from([3, 10, 1024, 5000]))
@example(("it's", 'a "b"', "\\", "\n"), 1024)
@example((True, None, 1.5, -0.0, float("nan"), float("inf")), 1024)
@example((10**400,), 1024)
@example(("é" * 40,) * 10, 1024)
@example((), 1024)
@example({}, 1024)
def test_arguments_are_shown_as_celery_shows_them(arguments, maxlen):
    limits = {**LIMITS, "maxlen": maxlen}
    assert shown(arguments, limits) == saferepr(arguments, **limits)


class OtherCelery(Celery):
    def send_task(self, *args: Any, **options: Any) -> Any:
        return super().send_task(*args, **options)


class OtherAMQP(AMQP): ...


def test_messages_may_be_made_here_where_nothing_hears_of_each():
    note_publishing_times()
    assert may_have_patterns(Celery(set_as_current=False))
    app = Celery(set_as_current=False)
    app.conf.task_routes = {"orders.*": {"queue": "orders"}}
    assert may_have_patterns(app)


@pytest.mark.parametrize(
    "app",
    [
        OtherCelery(set_as_current=False),
        Celery(set_as_current=False, amqp=OtherAMQP),
        Celery(set_as_current=False, changes={"task_protocol": 1}),
        Celery(set_as_current=False, changes={"task_send_sent_event": True}),
        Celery(set_as_current=False, changes={"task_routes": [lambda *_, **__: None]}),
    ],
)
def test_celery_makes_each_where_something_may_make_it_another_one(app):
    assert not may_have_patterns(app)


def test_celery_makes_each_where_one_listens(app):
    def listen(**_: Any) -> None: ...

    note_publishing_times()
    signals.before_task_publish.connect(listen)
    try:
        assert not may_have_patterns(app)
    finally:
        signals.before_task_publish.disconnect(listen)
    assert may_have_patterns(app)


def test_celery_makes_each_where_its_method_is_wrapped_as_tracers_do(app, monkeypatch):
    @functools.wraps(Celery.send_task)
    def traced(*args: Any, **options: Any) -> Any: ...

    monkeypatch.setattr(Celery, "send_task", traced)
    assert not may_have_patterns(app)
