"""What connections have to put up with in a worker that runs many tasks at once."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import kombu
import pytest
from celery import Celery
from kombu.utils import functional

from pico_celery_worker.consumer.defaults import (
    prepare_broker,
    prepare_result_backend,
    use_patched_sleep_in_kombu,
)

REDIS = "redis://localhost:6379/0"
RESULTS = ("result_backend_thread_safe", "result_backend_always_retry", "redis_max_connections")


@pytest.fixture
def make() -> Iterator[Callable[..., Celery]]:
    apps = []

    def make(broker: str = REDIS, backend: str | None = None, **settings: Any) -> Celery:
        app = Celery("tests", broker=broker, backend=backend, set_as_current=False)
        app.conf.update(settings)
        apps.append(app)
        return app

    yield make
    for app in apps:
        app.close()


@pytest.mark.parametrize("broker", [REDIS, "rediss://localhost", "sentinel://localhost:26379"])
def test_a_worker_does_not_wait_for_redis_for_ever(make, broker):
    app = make(broker)
    prepare_broker(app)
    options = app.conf.broker_transport_options
    assert 1 < options["socket_timeout"] < 120
    assert 0 < options["socket_connect_timeout"] < 60
    assert options["socket_keepalive"] is True
    assert options["max_connections"] > 1_000_000


def test_kombu_gives_that_to_redis(make, redis_url):
    app = make(redis_url)
    prepare_broker(app)
    with app.connection_for_read() as connection, connection.channel() as channel:
        options = app.conf.broker_transport_options
        connected = channel.client.connection_pool.connection_kwargs
        for name in ("socket_timeout", "socket_connect_timeout", "socket_keepalive"):
            assert connected[name] == options[name]
        assert channel.pool.max_connections == options["max_connections"]


def test_what_the_user_says_of_the_broker_holds(make):
    app = make(broker_transport_options={"socket_timeout": 3, "visibility_timeout": 60})
    prepare_broker(app)
    options = app.conf.broker_transport_options
    assert (options["socket_timeout"], options["visibility_timeout"]) == (3, 60)
    assert options["socket_keepalive"] is True


@pytest.mark.parametrize("broker", ["amqp://localhost", "memory://"])
def test_other_brokers_are_left_as_they_are(make, broker):
    app = make(broker, broker_transport_options={"x": 1})
    prepare_broker(app)
    assert app.conf.broker_transport_options == {"x": 1}


@pytest.mark.parametrize("backend", [REDIS, "rediss://localhost/1?ssl_cert_reqs=none"])
def test_tasks_share_a_result_backend_in_redis_and_wait_for_it(make, backend):
    app = make(backend=backend)
    prepare_result_backend(app.conf)
    assert app.conf.result_backend_thread_safe is True
    assert app.conf.result_backend_always_retry is True
    assert app.conf.redis_max_connections > 1_000_000
    assert app.backend is in_another_thread(lambda: app.backend)
    assert app.backend.always_retry is True
    assert app.backend.connparams["max_connections"] > 1_000_000


def test_without_that_each_thread_has_a_backend_of_its_own(make):
    """Fails when Celery no longer does what `prepare_result_backend` is for."""
    app = make(backend=REDIS)
    assert app.backend is not in_another_thread(lambda: app.backend)


def in_another_thread(function: Callable[[], Any]) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def test_what_the_user_says_of_the_result_backend_holds(make):
    said = dict(zip(RESULTS, (False, False, 5), strict=True))
    app = make(backend=REDIS, **said)
    prepare_result_backend(app.conf)
    assert {name: getattr(app.conf, name) for name in RESULTS} == said


@pytest.mark.parametrize("backend", [None, "cache+memory://", "rpc://", "file:///redis:results"])
def test_other_result_backends_are_left_as_they_are(make, backend):
    app = make(backend=backend)
    prepare_result_backend(app.conf)
    assert not any(app.conf.value_set_for(name) for name in RESULTS)


def test_who_tries_to_connect_again_waits_as_python_does_by_now(monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr(functional, "sleep", pytest.fail)
    monkeypatch.setattr(time, "sleep", slept.append)
    use_patched_sleep_in_kombu()
    # Nobody listens on this port.
    with kombu.Connection("redis://localhost:1") as connection, pytest.raises(connection.connection_errors):
        connection.ensure_connection(max_retries=1, interval_start=0.5, reraise_as_library_errors=False)
    assert sum(slept) == pytest.approx(0.5)
