"""CelerySettings: where its values come from, which are refused, and that it keeps secrets."""

import json
import logging
from dataclasses import dataclass
from types import ModuleType

import pytest
from celery import Celery
from celery.app.defaults import NAMESPACES, Option, flatten
from hypothesis import given
from hypothesis import strategies as st
from pico_ioc import (
    ComponentCreationError,
    DictSource,
    EnvSource,
    FlatDictSource,
    PicoContainer,
    configuration,
    configured,
    init,
)

from pico_celery_core import CelerySettings
from pico_celery_core.errors import SettingsError

CELERY_SETTINGS: dict[str, Option] = dict(flatten(NAMESPACES))
DEFAULTS = {
    "broker_url": "redis://localhost:6379/0",
    "backend_url": "redis://localhost:6379/1",
    "task_track_started": True,
}


def container(*sources, own: type | None = None) -> PicoContainer:
    application = ModuleType("application")
    if own is not None:
        vars(application)[own.__name__] = own
    config = configuration(*sources) if sources else None
    return init(modules=["pico_celery_core", application], config=config)


def settings(*sources) -> CelerySettings:
    return container(*sources).get(CelerySettings)


def three(found: CelerySettings) -> dict[str, object]:
    return {name: getattr(found, name) for name in DEFAULTS}


# Where they come from


def test_without_any_configuration_the_defaults_hold():
    assert three(settings()) == DEFAULTS


@pytest.mark.parametrize(
    "source", [DictSource({}), DictSource({"other": {"a": 1}}), DictSource({"celery": None}), FlatDictSource({})]
)
def test_without_a_celery_section_the_defaults_hold(source):
    assert three(settings(source)) == DEFAULTS


def test_a_tree_source_is_read():
    tree = {"broker_url": "amqp://b", "backend_url": "rpc://", "task_acks_late": True}
    found = settings(DictSource({"celery": tree}))
    assert (found.broker_url, found.backend_url, found.task_track_started) == ("amqp://b", "rpc://", True)
    assert found.as_celery()["task_acks_late"] is True


def test_several_tree_sources_are_merged():
    first = DictSource({"celery": {"broker_url": "amqp://first", "task_acks_late": True}})
    second = DictSource({"celery": {"broker_url": "amqp://second"}})
    found = settings(first, second).as_celery()
    assert (found["broker_url"], found["task_acks_late"]) == ("amqp://second", True)


def test_the_environment_is_read(monkeypatch):
    monkeypatch.setenv("CELERY_BROKER_URL", "amqp://environment")
    monkeypatch.setenv("CELERY_RESULT_BACKEND", "rpc://")
    monkeypatch.setenv("CELERY_WORKER_PREFETCH_MULTIPLIER", "7")
    monkeypatch.setenv("CELERY_TASK_TRACK_STARTED", "false")
    found = settings(EnvSource())
    assert (found.broker_url, found.backend_url, found.task_track_started) == ("amqp://environment", "rpc://", False)
    assert found.as_celery()["worker_prefetch_multiplier"] == 7


def test_a_flat_source_may_have_a_prefix_of_its_own(monkeypatch):
    monkeypatch.setenv("SHOP_CELERY_BROKER_URL", "amqp://shop")
    assert settings(EnvSource(prefix="SHOP_")).broker_url == "amqp://shop"


@pytest.mark.parametrize("prefix", ["", "celery"])
def test_a_flat_name_without_celerys_prefix_means_something_else(prefix):
    """A web application's own BACKEND_URL, for instance."""
    names = {f"{prefix}{name.upper()}": "other" for name in (*DEFAULTS, "result_backend")}
    assert three(settings(FlatDictSource(names))) == DEFAULTS


def test_flat_sources_win_over_trees():
    """An environment variable overrides what a file says."""
    tree = DictSource({"celery": {"broker_url": "amqp://tree", "backend_url": "rpc://tree"}})
    found = settings(tree, FlatDictSource({"CELERY_BROKER_URL": "amqp://flat"}))
    assert (found.broker_url, found.backend_url) == ("amqp://flat", "rpc://tree")


@pytest.mark.parametrize("tree_name", ["backend_url", "result_backend"])
@pytest.mark.parametrize("flat_name", ["BACKEND_URL", "RESULT_BACKEND"])
@pytest.mark.parametrize("in_tree", ["rpc://tree", DEFAULTS["backend_url"]])
def test_the_backend_of_a_flat_source_wins_under_either_name(tree_name, flat_name, in_tree):
    tree = DictSource({"celery": {tree_name: in_tree}})
    assert settings(tree, FlatDictSource({f"CELERY_{flat_name}": "rpc://flat"})).backend_url == "rpc://flat"


def test_an_override_of_the_configuration_wins():
    config = configuration(FlatDictSource({"CELERY_BROKER_URL": "flat"}), overrides={"CELERY_BROKER_URL": "override"})
    assert init(modules=["pico_celery_core"], config=config).get(CelerySettings).broker_url == "override"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("imports", "shop.tasks, shop.mails", ["shop.tasks", "shop.mails"]),
        ("accept_content", "json", ["json"]),
        ("task_routes", '{"mail.*": {"queue": "mail"}}', {"mail.*": {"queue": "mail"}}),
        ("broker_transport_options", '{"visibility_timeout": 60}', {"visibility_timeout": 60}),
        ("broker_use_ssl", '{"ssl_cert_reqs": 2}', {"ssl_cert_reqs": 2}),
        ("broker_use_ssl", "true", True),
        ("worker_concurrency", "100", 100),
        ("beat_cron_starting_deadline", "60", 60),
        ("result_expires", "3600.5", 3600.5),
        ("worker_concurrency", "many", "many"),
        ("task_default_queue", "7", "7"),
        ("security_key_password", "s3cret", "s3cret"),
    ],
)
def test_text_becomes_the_type_that_celery_wants(name, text, value):
    assert settings(FlatDictSource({f"CELERY_{name.upper()}": text})).as_celery()[name] == value


def test_text_that_cannot_become_that_type_names_the_setting():
    with pytest.raises((ComponentCreationError, SettingsError)) as error:
        settings(FlatDictSource({"CELERY_WORKER_PREFETCH_MULTIPLIER": "many"}))
    assert (
        "The setting 'worker_prefetch_multiplier' under the prefix 'celery' is 'many'. Celery takes a value of type int"
        in str(error.value)
    )


def test_a_section_that_is_no_mapping_is_refused():
    with pytest.raises((ComponentCreationError, SettingsError)) as error:
        settings(DictSource({"celery": ["broker_url"]}))
    assert "is list, not a mapping. Put the settings below it" in str(error.value)


# The application's own class, as in the specification


@configured(prefix="celery")
@dataclass
class OwnSettings:
    broker_url: str = "amqp://own-default"
    backend_url: str = "rpc://own-default"
    task_track_started: bool = True
    task_acks_late: bool = True


@configured(prefix="celery", mapping="tree")
@dataclass
class OwnTreeSettings:
    broker_url: str = "amqp://own-default"
    task_acks_late: bool = True


@configured(prefix="celery", mapping="tree")
class OwnPlainSettings:
    def __init__(self, broker_url: str = "amqp://own-default", task_acks_late: bool = True) -> None:
        self.broker_url = broker_url
        self.task_acks_late = task_acks_late


@configured(prefix="celery", mapping="tree")
class OwnChild(CelerySettings):
    def __init__(self, broker_url: str = "amqp://own-default", task_acks_late: bool = True) -> None:
        super().__init__(broker_url=broker_url, task_acks_late=task_acks_late)


@pytest.mark.parametrize("sources", [(), (FlatDictSource({}),), (DictSource({"other": {}}), EnvSource())])
def test_the_applications_own_settings_class_is_used_with_its_defaults(sources):
    app = container(*sources, own=OwnSettings).get(Celery)
    assert (app.conf.broker_url, app.conf.result_backend) == ("amqp://own-default", "rpc://own-default")
    assert app.conf.task_acks_late is True


def test_the_applications_own_settings_class_is_filled_from_flat_keys():
    app = container(FlatDictSource({"celeryBROKER_URL": "amqp://flat"}), own=OwnSettings).get(Celery)
    assert (app.conf.broker_url, app.conf.result_backend) == ("amqp://flat", "rpc://own-default")


@pytest.mark.parametrize("own", [OwnTreeSettings, OwnPlainSettings, OwnChild])
def test_the_applications_own_settings_class_is_filled_from_a_tree(own):
    source = DictSource({"celery": {"broker_url": "amqp://tree", "task_acks_late": False}})
    app = container(source, own=own).get(Celery)
    assert (app.conf.broker_url, app.conf.task_acks_late) == ("amqp://tree", False)


@configured(prefix="celery")
@dataclass
class MisspeltSettings:
    broker_ulr: str = "amqp://b"


def test_a_misspelt_field_of_the_applications_own_class_is_refused():
    with pytest.raises((ComponentCreationError, SettingsError), match="Did you mean 'broker_url'"):
        container(own=MisspeltSettings)


# What passes, what does not


@pytest.mark.parametrize("name", sorted(CELERY_SETTINGS.keys() - {"broker_url", "result_backend"}))
def test_every_setting_of_celery_passes_through(name):
    value = object()
    assert CelerySettings(**{name: value}).as_celery()[name] is value


@given(st.data())
def test_every_setting_of_celery_reaches_the_app(data):
    plain = {name: option for name, option in CELERY_SETTINGS.items() if option.type in ("int", "float", "bool")}
    kinds = {"int": st.integers(0, 100), "float": st.integers(0, 100), "bool": st.booleans()}
    names = data.draw(st.sets(st.sampled_from(sorted(plain)), max_size=5))
    chosen = {name: data.draw(kinds[plain[name].type]) for name in names}
    app = init(modules=["pico_celery_core"], config=configuration(DictSource({"celery": chosen}))).get(Celery)
    assert {name: app.conf[name] for name in chosen} == chosen


def test_the_settings_of_an_extension_pass_through():
    tree = {"redbeat_redis_url": "redis://beat", "redbeat_lock_timeout": 9}
    app = container(DictSource({"celery": tree})).get(Celery)
    assert (app.conf.redbeat_redis_url, app.conf.redbeat_lock_timeout) == ("redis://beat", 9)


@pytest.mark.parametrize(
    ("misspelt", "right"),
    [
        ("broker_ulr", "broker_url"),
        ("backend_ur", "backend_url"),
        ("task_ack_late", "task_acks_late"),
        ("worker_prefetch_multiplyer", "worker_prefetch_multiplier"),
        ("BROKER_URL", "broker_url"),
        ("result_expire", "result_expires"),
        ("CELERY_TASK_SERIALIZER", "task_serializer"),
    ],
)
def test_a_misspelt_setting_is_refused_with_the_right_one(misspelt, right):
    with pytest.raises(SettingsError) as error:
        CelerySettings(**{misspelt: "x"})
    assert str(error.value) == (
        f"The setting {misspelt!r} under the prefix 'celery' is not one that Celery knows. Did you mean {right!r}?"
    )
    assert isinstance(error.value, ValueError)


def test_a_misspelt_setting_stops_the_start():
    with pytest.raises(ComponentCreationError, match="Did you mean 'broker_url'") as error:
        container(DictSource({"celery": {"broker_ulr": "amqp://b"}}))
    cause: Exception = error.value
    while isinstance(cause, ComponentCreationError):
        cause = cause.cause
    assert isinstance(cause, SettingsError)


def test_result_backend_is_another_name_of_backend_url():
    found = CelerySettings(result_backend="rpc://")
    assert found.backend_url == "rpc://"
    assert found.as_celery()["result_backend"] == "rpc://"
    assert "backend_url" not in found.as_celery()


def test_both_names_may_agree():
    assert CelerySettings(backend_url="rpc://", result_backend="rpc://").backend_url == "rpc://"


def test_two_backends_are_refused():
    with pytest.raises(SettingsError, match=r"'result_backend' .* contradicts 'backend_url'.*Give only one of the two"):
        CelerySettings(backend_url="rpc://", result_backend="redis://")


@pytest.mark.parametrize("none", [None, ""])
@pytest.mark.parametrize("name", ["backend_url", "result_backend"])
def test_without_a_backend_no_results_are_kept(name, none):
    app = Celery(set_as_current=False)
    app.conf.update(CelerySettings(**{name: none}).as_celery())
    assert type(app.backend).__name__ == "DisabledBackend"


def test_celery_does_not_warn_about_retrying_at_startup():
    assert CelerySettings().as_celery()["broker_connection_retry_on_startup"] is True
    own = CelerySettings(broker_connection_retry_on_startup=False)
    assert own.as_celery()["broker_connection_retry_on_startup"] is False


# Secrets

SECRET = "pa55word"
SECRETIVE = {
    "broker_url": f"amqp://user:{SECRET}@mq:5672/vhost",
    "backend_url": f"redis://:{SECRET}@cache:6379/1?ssl_cert_reqs=none",
    "broker_read_url": f"amqp://user:{SECRET}@mq1//;amqp://user:{SECRET}@mq2//",
    "broker_write_url": [f"amqp://user:{SECRET}@mq1//", f"amqp://user:{SECRET}/{SECRET}@mq2//"],
    "redbeat_redis_url": f"redis://:{SECRET}@beat",
    "broker_transport_options": {
        "sentinel_kwargs": {"password": SECRET},
        "hosts": [{"uri": f"redis://:{SECRET}@host"}],
        "predefined_queues": {"q": {"secret_access_key": SECRET}},
    },
    "result_backend_transport_options": {"url": f"https://host/?password={SECRET}&x=1"},
    "cache_backend": f"azureblockblob://AccountName=a;AccountKey={SECRET};x=1",
    "s3_secret_access_key": SECRET,
    "security_key_password": SECRET,
    "redis_password": SECRET,
}


def test_repr_and_str_show_no_secret():
    found = CelerySettings(**SECRETIVE)
    for text in (repr(found), str(found), f"{found}"):
        assert SECRET not in text
    assert "broker_url='amqp://********@mq:5672/vhost'" in repr(found)
    assert "backend_url='redis://********@cache:6379/1?ssl_cert_reqs=none'" in repr(found)


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=6).filter(lambda text: "@" not in text))
def test_no_password_that_fits_in_a_url_shows(password):
    shown = repr(CelerySettings(broker_url=f"redis://:{password}@localhost/0"))
    assert shown == repr(CelerySettings(broker_url="redis://:other@localhost/0"))


def test_repr_shows_what_is_no_secret():
    assert repr(CelerySettings(task_acks_late=True, broker_pool_limit=None)) == (
        "CelerySettings(broker_url='redis://localhost:6379/0', backend_url='redis://localhost:6379/1', "
        "task_track_started=True, task_acks_late=True, broker_pool_limit=None)"
    )


@pytest.mark.parametrize("flat", [True, False])
def test_the_log_shows_no_secret(caplog, flat):
    caplog.set_level(logging.DEBUG)
    if flat:
        texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in SECRETIVE.items()}
        source = FlatDictSource({f"CELERY_{name.upper()}": text for name, text in texts.items()})
    else:
        source = DictSource({"celery": SECRETIVE})
    container(source).get(Celery)
    assert "Made the Celery app" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "wrong",
    [
        {"broker_ulr": SECRETIVE["broker_url"]},
        {"backend_url": SECRETIVE["backend_url"], "result_backend": SECRETIVE["broker_url"]},
    ],
)
def test_an_error_shows_no_secret(wrong):
    with pytest.raises(SettingsError) as error:
        CelerySettings(**wrong)
    assert SECRET not in str(error.value) + repr(error.value)
    with pytest.raises((ComponentCreationError, SettingsError)) as error:
        container(DictSource({"celery": wrong}))
    assert SECRET not in str(error.value) + repr(error.value)
