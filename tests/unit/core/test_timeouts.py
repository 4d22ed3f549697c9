"""The time limits of pico-celery's own are read in one place, and one that is wrong is an error at start-up."""

from typing import Any

import pytest
from celery import Celery
from pico_ioc import DictSource, configuration, init

from pico_celery_core.timeouts import Timeouts


def app_with(**settings: Any) -> Celery:
    app = Celery("tests", set_as_current=False)
    app.conf.update(settings)
    return app


def test_an_app_without_our_settings_has_their_defaults():
    assert Timeouts.of(app_with()) == Timeouts(
        publish=10, result=0, cancel=10, cleanup=10, blocked=30, loop_lag_warning=1
    )


def test_each_setting_has_its_place():
    settings = {
        "pico_publish_timeout": "1.5",
        "pico_result_timeout": 60,
        "pico_cancel_timeout": 2,
        "pico_cleanup_timeout": 3,
        "pico_loop_lag_warning": None,
    }
    expected = Timeouts(publish=1.5, result=60, cancel=2, cleanup=3, blocked=30, loop_lag_warning=0)
    assert Timeouts.of(app_with(**settings)) == expected


def test_a_terminated_task_may_unwind_and_clean_up():
    assert Timeouts.of(app_with(pico_cancel_timeout=2, pico_cleanup_timeout=3)).termination == 5


def test_what_is_no_number_is_refused_when_the_container_makes_the_app():
    settings = configuration(DictSource({"celery": {"broker_url": "memory://", "pico_cancel_timeout": "soon"}}))
    with pytest.raises(Exception, match=r"'pico_cancel_timeout' .* is 'soon'\. Give a number"):
        init(modules=["pico_celery"], config=settings).get(Celery)
