"""A broker or a result backend of a kind that there is not is a setting's error."""

import pytest

from pico_celery_core.errors import SettingsError
from pico_celery_core.transports import check_transports


@pytest.mark.parametrize(
    ("broker", "backend", "setting", "meant"),
    [
        ("rabbit://mq", None, "broker_url", "amqp://"),
        ("reddis://cache", None, "broker_url", "redis://"),
        ("amqp://mq;ampq://other", None, "broker_url", "amqp://"),
        ("redis://cache", "reddis://cache", "backend_url", "redis://"),
        ("redis://cache", "postgresql://db/shop", "backend_url", "db+postgresql://"),
    ],
)
def test_the_one_that_was_probably_meant_is_named(broker, backend, setting, meant):
    with pytest.raises(SettingsError, match="is no kind that Celery knows") as error:
        check_transports(broker, backend)
    assert error.value.setting == setting
    assert error.value.hint == f"Did you mean {meant}?"


def test_without_a_likely_one_all_are_named():
    with pytest.raises(SettingsError, match=r"There are .*amqp, .*redis"):
        check_transports("quux://host", None)


@pytest.mark.parametrize(
    "broker",
    [
        "amqp://mq",
        "pyamqp://",
        "redis://cache",
        "rediss://cache",
        "redis+socket:///x",
        "sqs://",
        "memory://",
        "sqla+sqlite:///x",
        "sentinel://one;sentinel://two",
        "filesystem://",
        "shop.transport:Transport://x",
        "localhost",
        "",
        None,
    ],
)
def test_what_there_is_passes(broker):
    check_transports(broker, None)


@pytest.mark.parametrize(
    "backend",
    [
        "redis://cache",
        "rediss://cache",
        "db+sqlite:///x",
        "rpc://",
        "cache+memory://",
        "file:///x",
        "disabled://",
        "disabled",
        "shop.results:Backend",
        "sentinel://one;sentinel://two",
        "mongodb://db",
        None,
        object(),
    ],
)
def test_a_backend_that_there_is_passes(backend):
    check_transports("redis://cache", backend)
