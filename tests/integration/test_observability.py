"""A real worker that is asked how it is, as by probes and a scraper."""

import json
import os
import re
import signal
import socket
import urllib.request
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.workers import celery, running_worker, sender
from tests.servers import own_redis
from tests.waiting import eventually

pytestmark = [pytest.mark.services, pytest.mark.timeout(420)]

# One that nobody else listens on: what connects from this machine does so from 127.0.0.1.
HOST = f"127.77.{os.getpid() // 250 % 250}.{os.getpid() % 250 + 1}"
FORGED = "an id\nSHOP forged"


def free_port_of_ours() -> int:
    with socket.create_server((HOST, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def get(path: str, port: int) -> tuple[int, str]:
    """Return the status and the text of an answer; 0 if there is none."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{HOST}:{port}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except (URLError, OSError):
        return 0, ""


def checks(port: int) -> dict[str, str]:
    return json.loads(get("/health/ready", port)[1])["checks"]


def samples(port: int) -> dict[tuple[str, ...], float]:
    """Return what a scrape shows: by name and labels, in order."""
    families = text_string_to_metric_families(get("/metrics", port)[1])
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith("pico_celery_")
    }


@pytest.mark.parametrize("options", [("-P", "gevent", "-c", "20"), ("-P", "threads", "-c", "4")], ids=lambda o: o[1])
def test_a_worker_can_be_asked_how_it_is(options: tuple[str, ...], tmp_path: Path, redis_url: str) -> None:
    port, down = free_port_of_ours(), tmp_path / "down"
    told = {"TEST_HTTP_PORT": str(port), "TEST_HTTP_HOST": HOST, "TEST_DOWN": str(down)}
    with (
        sender(redis_url, redis_url) as app,
        running_worker("observability", *options, broker=redis_url, backend=redis_url, **told) as worker,
    ):
        worker.wait_for_log(rf"Serving /health/live, /health/ready, /metrics on {re.escape(HOST)} port {port}")
        eventually(lambda: get("/health/ready", port)[0] == 200, timeout=60)
        assert checks(port) == dict.fromkeys(["database", "singletons", "broker", "running"], "UP")
        assert get("/health/live", port)[0] == 200

        down.touch()
        assert get("/health/ready", port)[0] == 503
        assert checks(port)["database"] == "DOWN"
        assert get("/health/live", port)[0] == 200
        down.unlink()

        # As a sender with pico-celery has it. Where another test has made one in this process, it is the true time.
        headers = {"pico_published_at": 1_700_000_000}
        for _ in range(5):
            app.send_task("observed.wait", [0], headers=headers).get(timeout=60)
        app.send_task("observed.fail").get(timeout=60, propagate=False)
        app.send_task("observed.write", task_id=FORGED).get(timeout=60)
        found = eventually(
            lambda: (
                (read := samples(port)).get(("pico_celery_tasks_total", "succeeded", "observed.write")) == 1
                and read[("pico_celery_tasks_in_flight",)] == 0
                and read[("pico_celery_settlements_total", "acknowledged")] == 7
                and read
            )
        )
        assert found[("pico_celery_tasks_total", "succeeded", "observed.wait")] == 5
        assert found[("pico_celery_tasks_total", "failed", "observed.fail")] == 1
        assert found[("pico_celery_task_queue_seconds_count", "observed.wait")] == 5
        assert found[("pico_celery_tasks_capacity",)] == int(options[3])
        assert ("pico_celery_loop_lag_seconds",) in found
        forged = [line for line in worker.lines if line.startswith("SHOP")]
        of_the_task = r"SHOP observed.write[an id\nSHOP forged] of an id\nSHOP forged"
        assert forged == [f"{of_the_task}: child\n", f"{of_the_task}: blocking\n"]

        # Those that send nothing are not waited for.
        with socket.create_connection((HOST, port)) as idle:
            idle.sendall(b"GET /health/live HTTP/1.1\r\n")
            held = app.send_task("observed.wait", [600])
            eventually(lambda: samples(port)[("pico_celery_tasks_in_flight",)] == 1)
            worker.process.send_signal(signal.SIGTERM)
            worker.wait_for_log("Warm shutdown")
            eventually(lambda: get("/health/ready", port)[0] == 503)
            assert checks(port)["running"] == "DOWN"
            assert get("/health/live", port)[0] == 200
            held.forget()
            worker.stop(signal.SIGQUIT, 60)
        assert get("/health/live", port)[0] == 0


def test_a_worker_without_its_broker_is_not_ready(tmp_path: Path) -> None:
    port = free_port_of_ours()
    told = {"TEST_HTTP_PORT": str(port), "TEST_HTTP_HOST": HOST, "TEST_DOWN": str(tmp_path / "down")}
    with (
        own_redis() as server,
        running_worker(
            "observability", "-P", "gevent", "-c", "5", broker=server.url, backend=server.url, **told
        ) as worker,
    ):
        eventually(lambda: get("/health/ready", port)[0] == 200, timeout=60)
        server.stop()
        eventually(lambda: get("/health/ready", port)[0] == 503, timeout=60)
        assert checks(port)["broker"] == "DOWN"
        assert get("/health/live", port)[0] == 200
        server.start()
        eventually(lambda: get("/health/ready", port)[0] == 200, timeout=60)
        assert samples(port)[("pico_celery_broker_reconnections_total",)] >= 1
        worker.stop()


def test_a_port_that_is_taken_stops_the_worker(tmp_path: Path, redis_url: str) -> None:
    with socket.create_server((HOST, 0)) as taken:
        variables = {
            "TEST_BROKER_URL": redis_url,
            "TEST_BACKEND_URL": redis_url,
            "TEST_HTTP_PORT": str(taken.getsockname()[1]),
            "TEST_HTTP_HOST": HOST,
            "TEST_DOWN": str(tmp_path / "down"),
        }
        with celery("worker", "observability", "-P", "gevent", "-c", "5", **variables) as worker:
            worker.wait_for_log("The worker cannot start: The setting 'pico_http_port' .* in use")
            assert worker.wait() != 0
