"""The server of a worker: what it serves, and what it says where it cannot."""

import logging
import urllib.request
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError

import pytest
from celery import bootsteps

from pico_celery_core.errors import SettingsError
from pico_celery_core.http_endpoint import HttpEndpoint
from pico_celery_worker.loop import close_runner, current_runner
from pico_celery_worker.observability import server as module
from pico_celery_worker.observability.http import HttpServer
from pico_celery_worker.observability.server import WorkerServer
from tests.unit.worker.containers import bare_container


@pytest.fixture
def runner():
    yield current_runner()
    close_runner()


@pytest.fixture
def ports(monkeypatch):
    """The ports that servers listen on: any that are free."""
    found: list[int] = []
    start = HttpServer.start

    async def note(self: HttpServer, host: str, port: int) -> int:
        found.append(await start(self, host, port))
        return found[-1]

    monkeypatch.setattr(HttpServer, "start", note)
    return found


def make_server(endpoint: HttpEndpoint | None = None) -> WorkerServer:
    running = SimpleNamespace(state=bootsteps.RUN)
    worker: Any = SimpleNamespace(blueprint=running, pool=SimpleNamespace(num_processes=3), consumer=None)
    return WorkerServer(worker, bare_container(), endpoint or HttpEndpoint("127.0.0.1", 0))


def get(port: int, path: str) -> tuple[int, str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_health_and_metrics_are_served_on_the_loop(runner, ports, caplog):
    server = make_server()
    with caplog.at_level(logging.INFO, "pico_celery_worker"):
        server.start(runner)
    try:
        assert get(ports[0], "/health/live")[0] == 200
        assert get(ports[0], "/health/ready")[0] == 503
        status, text = get(ports[0], "/metrics")
        assert status == 200
        assert "pico_celery_tasks_capacity 3.0" in text
        assert "Serving /health/live, /health/ready, /metrics on 127.0.0.1" in caplog.text
    finally:
        server.stop(runner)
    with pytest.raises(OSError, match="refused"):
        get(ports[0], "/health/live")


def test_without_prometheus_client_there_is_health_alone(runner, ports, monkeypatch, caplog):
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    server = make_server()
    with caplog.at_level(logging.INFO, "pico_celery_worker"):
        server.start(runner)
    try:
        status, text = get(ports[0], "/metrics")
        assert (status, "pico-celery-worker[metrics]" in text) == (404, True)
        assert get(ports[0], "/health/live")[0] == 200
        assert "Serving /health/live, /health/ready on 127.0.0.1" in caplog.text
    finally:
        server.stop(runner)


def test_a_port_that_is_taken_is_an_error_that_says_what_to_do(runner, ports):
    first = make_server()
    first.start(runner)
    second = make_server(HttpEndpoint("127.0.0.1", ports[0]))
    try:
        with pytest.raises(SettingsError, match="in use") as error:
            second.start(runner)
        assert error.value.setting == "pico_http_port"
        assert "Set another pico_http_port" in error.value.hint
    finally:
        second.stop(runner)
        first.stop(runner)
