"""Settings that stand where nothing reads them draw a warning with the place that is meant."""

import json
import logging
from dataclasses import dataclass

import pytest
from celery import Celery
from pico_ioc import (
    ComponentCreationError,
    DictSource,
    EnvSource,
    FileSource,
    FlatDictSource,
    configuration,
    configured,
    init,
)

from pico_celery_core import CelerySettings
from pico_celery_core.configuration import unread_settings
from pico_celery_core.errors import SettingsError
from tests.unit.core.test_settings import OwnSettings, OwnTreeSettings, container, settings


def unread(*sources, own: type | None = None) -> list[tuple[str, str]]:
    return [(found.name, found.meant) for found in unread_settings(container(*sources, own=own))]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in ("BROKER_URL", "RESULT_BACKEND", "CELERY_BROKER_URL"):
        monkeypatch.delenv(name, raising=False)


# Names that Celery has elsewhere, or had


NAMES = [
    ("broker", "broker_url"),
    ("backend", "backend_url"),
    ("concurrency", "worker_concurrency"),
    ("acks_late", "task_acks_late"),
    ("CELERY_ACKS_LATE", "task_acks_late"),
]


@pytest.mark.parametrize(("name", "right"), NAMES)
def test_a_name_from_elsewhere_in_celery_is_refused(name, right):
    with pytest.raises(SettingsError, match=f"Did you mean '{right}'"):
        CelerySettings(**{name: "x"})
    with pytest.raises(ComponentCreationError, match=f"Did you mean '{right}'"):
        container(DictSource({"celery": {name: "x"}}))


@pytest.mark.parametrize(("name", "right"), NAMES)
def test_in_the_environment_which_is_not_celerys_alone_it_is_warned_of(name, right, monkeypatch):
    written = f"CELERY_{name.upper().removeprefix('CELERY_')}"
    monkeypatch.setenv(written, "x")
    assert unread(EnvSource()) == [(written, f"'CELERY_{right.upper()}'")]


def test_a_warning_is_logged_when_the_app_is_made(caplog):
    with caplog.at_level(logging.WARNING, "pico_celery_core"):
        container(DictSource({"broker_url": "amqp://user:pa55word@mq"}))
    [record] = caplog.records
    assert record.getMessage() == (
        "'broker_url' in the configuration looks like a setting of Celery's, and is not read there. "
        "Did you mean 'broker_url' below 'celery'?"
    )


# Without the prefix


@pytest.mark.parametrize(
    ("tree", "name", "meant"),
    [
        ({"broker_url": "amqp://mq"}, "broker_url", "'broker_url' below 'celery'"),
        ({"broker": "amqp://mq"}, "broker", "'broker_url' below 'celery'"),
        ({"backend_url": "redis://cache"}, "backend_url", "'backend_url' below 'celery'"),
        ({"task_acks_late": True}, "task_acks_late", "'task_acks_late' below 'celery'"),
        ({"CELERY_BROKER_URL": "amqp://mq"}, "CELERY_BROKER_URL", "'broker_url' below 'celery'"),
        ({"celery.task_ack_late": True}, "celery.task_ack_late", "'task_acks_late' below 'celery'"),
        ({"CELERY": {"broker_url": "amqp://mq"}}, "CELERY", "'celery'"),
        ({"celry": {"broker_url": "amqp://mq"}}, "celry", "'celery'"),
    ],
)
def test_a_tree_without_the_prefix(tree, name, meant):
    assert unread(DictSource(tree)) == [(name, meant)]


@pytest.mark.parametrize(
    "tree",
    [
        {"backend_url": "https://shop.example", "timezone": "UTC", "redis_host": "cache", "include": []},
        {"broker": {"name": "Lloyd's"}, "backend": "postgres", "task": {"acks_late": True}},
        {"celery2": {"broker_url": "amqp://another"}, "celery_app": "shop"},
    ],
)
def test_what_may_be_anybodys_is_not_warned_of(tree):
    assert unread(DictSource(tree)) == []


@pytest.mark.parametrize("name", ["backend_url", "result_backend"])
def test_a_value_that_the_prefix_has_as_well_is_no_mistake(name):
    tree = {"broker_url": "amqp://mq", "result_backend": "rpc://", "task_acks_late": True}
    below = {"broker_url": "${ref:broker_url}", name: "${ref:result_backend}", "task_acks_late": True}
    assert unread(DictSource({**tree, "celery": below})) == []


def test_the_environment_without_the_prefix(monkeypatch):
    monkeypatch.setenv("BROKER_URL", "amqp://mq")
    monkeypatch.setenv("BACKEND_URL", "https://shop.example")
    assert unread(EnvSource()) == [("BROKER_URL", "'CELERY_BROKER_URL'")]
    assert unread(FlatDictSource({})) == []
    monkeypatch.setenv("CELERY_BROKER_URL", "amqp://right")
    assert unread(EnvSource()) == []


def test_a_flat_source_with_a_prefix_of_its_own(monkeypatch):
    monkeypatch.setenv("SHOP_TASK_ACKS_LATE", "true")
    assert unread(EnvSource(prefix="SHOP_")) == [("SHOP_TASK_ACKS_LATE", "'SHOP_CELERY_TASK_ACKS_LATE'")]


def test_what_celery_itself_puts_into_the_environment_is_no_mistake(monkeypatch):
    names = ("LOG_LEVEL", "LOG_FILE", "LOG_REDIRECT", "LOG_REDIRECT_LEVEL", "LOADER", "CONFIG_MODULE", "APP", "BIN")
    for name in names:
        monkeypatch.setenv(f"CELERY_{name}", "x")
    assert unread(EnvSource()) == []


@configured(prefix="CELERY", mapping="tree")
@dataclass
class WrongPrefix:
    broker_url: str = "amqp://own"


def test_a_settings_class_under_a_misspelt_prefix():
    assert unread(own=WrongPrefix) == [("@configured(prefix='CELERY')", "@configured(prefix='celery')")]


@pytest.mark.parametrize("own", [OwnSettings, OwnTreeSettings])
def test_a_settings_class_of_ones_own_reads_what_it_says(own, monkeypatch):
    monkeypatch.setenv("BROKER_URL", "amqp://mq")
    assert unread(DictSource({"celery": {}}), EnvSource(), own=own) == []


def test_an_app_of_ones_own_is_not_warned_of(caplog):
    config = configuration(DictSource({"broker_url": "amqp://mq"}))
    own = Celery(set_as_current=False)
    with caplog.at_level(logging.WARNING, "pico_celery_core"):
        init(modules=["pico_celery_core"], config=config, overrides={Celery: own})
    assert not caplog.records


# Flat sources that have the prefix themselves


@pytest.mark.parametrize("prefix", ["CELERY_", "CELERY"])
def test_an_environment_source_with_celerys_prefix_is_read(prefix, monkeypatch, caplog):
    monkeypatch.setenv("CELERY_BROKER_URL", "amqp://environment")
    monkeypatch.setenv("CELERY_RESULT_BACKEND", "rpc://")
    monkeypatch.setenv("CELERY_TASK_ACKS_LATE", "true")
    with caplog.at_level(logging.WARNING, "pico_celery_core"):
        found = settings(DictSource({"celery": {"broker_url": "amqp://tree"}}), EnvSource(prefix=prefix))
    assert (found.broker_url, found.backend_url) == ("amqp://environment", "rpc://")
    assert found.as_celery()["task_acks_late"] is True
    assert not caplog.records


def test_such_a_source_may_stand_behind_the_prefix_of_an_application(monkeypatch):
    monkeypatch.setenv("SHOP_CELERY_BROKER_URL", "amqp://shop")
    assert settings(EnvSource(prefix="SHOP_CELERY_")).broker_url == "amqp://shop"


def test_a_misspelt_name_in_such_a_source(monkeypatch):
    monkeypatch.setenv("CELERY_TASK_ACK_LATE", "true")
    assert unread(EnvSource(prefix="CELERY_")) == [("CELERY_TASK_ACK_LATE", "'CELERY_TASK_ACKS_LATE'")]


def test_other_flat_sources_with_celerys_prefix_are_read(tmp_path):
    assert settings(FlatDictSource({"CELERY_BROKER_URL": "amqp://dict"}, prefix="CELERY_")).broker_url == "amqp://dict"
    insensitive = FlatDictSource({"celery_broker_url": "amqp://dict"}, prefix="celery_", case_sensitive=False)
    assert settings(insensitive).broker_url == "amqp://dict"
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"CELERY": {"BROKER_URL": "amqp://file"}}))
    assert settings(FileSource(str(path), prefix="CELERY__")).broker_url == "amqp://file"
