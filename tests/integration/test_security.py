"""Secrets that show nowhere, servers behind TLS, and signed messages."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.integration.certificates import Certificate
from tests.integration.workers import ROOT, celery, running_worker, sender
from tests.servers import OwnRedis, free_port, own_redis
from tests.waiting import eventually

URL_SECRET = "url-secret-5f2c"
ARGUMENT_SECRET = "argument-secret-91ab"
HASH = hashlib.sha256(ARGUMENT_SECRET.encode()).hexdigest()

GEVENT = ("-P", "gevent", "-c", "10", "-E")

# Wait no longer than the tests do for servers that are not there.
IMPATIENT = {"result_backend_transport_options": {"retry_policy": {"max_retries": 1, "interval_start": 0}}}


def variables(broker: str, backend: str, settings: dict[str, object] | None = None) -> dict[str, str]:
    return {
        "TEST_BROKER_URL": broker,
        "TEST_BACKEND_URL": backend,
        "TEST_SECRET": ARGUMENT_SECRET,
        "TEST_SETTINGS": json.dumps(settings or {}),
    }


def run(*command: str, environment: dict[str, str]) -> str:
    """Run a Python module and return all it prints."""
    ended = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
        check=False,
    )
    return ended.stdout


def client(*situations: str, environment: dict[str, str]) -> str:
    return run("tests.integration.apps.security_client", *situations, environment=environment)


def cli(*command: str, environment: dict[str, str]) -> str:
    return run("celery", "-A", "tests.integration.apps.security", *command, environment=environment)


def shown(outputs: dict[str, str]) -> list[str]:
    """Return what of the outputs has a secret in it."""
    lines = [(where, line) for where, output in outputs.items() for line in output.splitlines()]
    return [f"{where}: {line}" for where, line in lines if URL_SECRET in line or ARGUMENT_SECRET in line]


# Secrets


def test_no_output_shows_a_password_or_a_sensitive_argument() -> None:
    with own_redis(URL_SECRET) as server:
        url = server.url
        environment = variables(url, url)
        with (
            server.client() as redis,
            celery("events", "security", "--dump", "-l", "DEBUG", **environment) as events,
            running_worker("security", *GEVENT, "-l", "DEBUG", broker=url, backend=url, **environment) as worker,
        ):
            # The worker is subscribed to remote control, and whoever watches to events.
            eventually(lambda: redis.pubsub_numpat() == 2)
            output = client("settings", "work", environment=environment)
            events.wait_for_log("task revoked")
            assert worker.stop() == 0
            events.end()
    with ThreadPoolExecutor() as pool_of_threads:
        commands = [("pico", "tasks"), ("pico", "tasks", "--json"), ("pico", "check"), ("report",)]
        printed = pool_of_threads.map(lambda command: cli(*command, environment=environment), commands)
        outputs = {
            "worker": worker.log,
            "events": events.log,
            "client": output,
            **dict(zip(map(str, commands), printed, strict=True)),
        }
    assert shown(outputs) == []
    # They have all been there, and the secrets too.
    assert HASH in output
    assert output.rstrip().endswith("REVOKED None")
    assert "TaskPool: Apply task accounts.open[" in worker.log
    assert "Received unregistered task of type 'accounts.unknown'" in worker.log
    for event in ("sent", "received", "started", "succeeded", "failed", "retried", "revoked"):
        assert f"task {event}" in events.log.replace("-", " ")
    assert "kwargs={'user': 'ada', 'password': '***'}" in events.log
    assert f"redis://:********@127.0.0.1:{server.port}/0" in output
    assert all("accounts.open" in outputs[str(command)] for command in commands[:2])


@pytest.mark.parametrize("pool", ["gevent", "prefork", "threads"])
def test_no_outcome_shows_a_sensitive_argument_whoever_sent_it(pool: str) -> None:
    with own_redis(URL_SECRET) as server:
        url = server.url
        environment = variables(url, url)
        options = ("-P", pool, "-c", "4", "-E", "-l", "DEBUG")
        with (
            server.client() as redis,
            celery("events", "security", "--dump", "-l", "DEBUG", **environment) as events,
            running_worker("security", *options, broker=url, backend=url, **environment) as worker,
        ):
            eventually(lambda: redis.pubsub_numpat() == 2)
            output = client("outcomes", environment=environment)
            worker.wait_for_log("Received and deleted unknown message")
            assert worker.stop() == 0
            events.end()
            results = [str(redis.get(key)) for key in redis.scan_iter("celery-task-meta-*")]
    assert shown({"worker": worker.log, "events": events.log, "client": output, "results": "\n".join(results)}) == []
    # It was all there.
    assert len([line for line in output.splitlines() if HASH in line]) > 10
    for said in ("raised unexpected: MaxRetriesExceededError", "retry: Retry", "Received invalid task message"):
        assert said in worker.log
    for said in ("Can't retry", "TimeLimitExceeded", "SoftTimeLimitExceeded", "TaskRevokedError", "HandlerExitError"):
        assert said in output
    assert "args=('ada', '***')" in events.log


DEAD = "redis://:{secret}@localhost:{closed}/0"
WRONG = "redis://somebody:{secret}-but-wrong@localhost:{port}/0"

TROUBLES = {
    "no broker": (DEAD, "{url}", "Cannot connect to redis://"),
    "no RabbitMQ": ("amqp://somebody:{secret}@localhost:{closed}//", "{url}", "Cannot connect to amqp://"),
    "a wrong password": (WRONG, "{url}", "invalid username-password pair"),
    "no result backend": ("{url}", DEAD, "Connection refused|Connection to Redis lost"),
}


def test_what_is_said_of_servers_that_cannot_be_reached_shows_no_password() -> None:
    closed = free_port()

    def trouble(server: OwnRedis, kind: str) -> dict[str, str]:
        broker, backend, expected = TROUBLES[kind]
        known = {"url": server.url, "secret": URL_SECRET, "port": server.port, "closed": closed}
        environment = variables(broker.format(**known), backend.format(**known), IMPATIENT)
        with celery("worker", "security", *GEVENT, "-l", "DEBUG", **environment) as worker:
            output = client("settings", "unreachable", environment=environment)
            worker.wait_for_log(expected)
        return {f"{kind}: worker": worker.log, f"{kind}: client": output}

    with own_redis(URL_SECRET) as server, ThreadPoolExecutor() as threads:
        found = threads.map(lambda kind: trouble(server, kind), TROUBLES)
        outputs = {name: output for of_one in found for name, output in of_one.items()}
    assert shown(outputs) == []
    for kind in TROUBLES:
        assert "Traceback" in outputs[f"{kind}: client"]
    assert (
        f"PublishTimeoutError: Sending task 'accounts.open' to redis://:**@localhost:{closed}/0"
        in (outputs["no broker: client"])
    )


# TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.make(tmp_path_factory.mktemp("authority"), "authority")


@contextmanager
def tls_redis(folder: Path, authority: Certificate) -> Iterator[int]:
    """Run a Redis that speaks TLS alone, and knows only clients with certificates of the CA: its port."""
    server = Certificate.make(folder, "server", authority)
    files = ("--tls-cert-file", str(server.certificate), "--tls-key-file", str(server.key))
    authorities = ("--tls-ca-cert-file", str(authority.certificate), "--tls-auth-clients", "yes")
    with own_redis(tls=[*files, *authorities]) as redis:
        yield redis.port


def test_worker_and_awaiting_client_speak_tls_with_broker_and_backend(tmp_path: Path, authority: Certificate) -> None:
    own = Certificate.make(tmp_path, "client", authority)
    options = {
        "ssl_cert_reqs": "required",
        "ssl_ca_certs": str(authority.certificate),
        "ssl_certfile": str(own.certificate),
        "ssl_keyfile": str(own.key),
    }
    with tls_redis(tmp_path, authority) as port:
        # The one is told by its URL, the other by a setting.
        backend = f"rediss://localhost:{port}/0"
        broker = f"{backend}?{urlencode(options)}"
        environment = variables(broker, backend, {"redis_backend_use_ssl": options})
        with running_worker("security", *GEVENT, broker=broker, backend=backend, **environment) as worker:
            output = client("await", environment=environment)
            assert f"awaited {HASH}" in output, output
            assert worker.stop() == 0


def test_a_server_whose_certificate_nobody_vouches_for_is_refused(tmp_path: Path, authority: Certificate) -> None:
    stranger = Certificate.make(tmp_path, "stranger")
    options = {"ssl_cert_reqs": "required", "ssl_ca_certs": str(stranger.certificate)}
    with tls_redis(tmp_path, authority) as port:
        url = f"rediss://localhost:{port}/0"
        settings = {"broker_use_ssl": options, "redis_backend_use_ssl": options, **IMPATIENT}
        output = client("await", environment=variables(url, url, settings))
    assert "CERTIFICATE_VERIFY_FAILED" in output
    assert HASH not in output


# Signed messages


def test_signed_messages_run_and_others_do_not(tmp_path: Path, redis_url: str) -> None:
    store = tmp_path / "store"
    store.mkdir()
    own, stranger = Certificate.make(store, "own"), Certificate.make(tmp_path, "stranger")
    signed = environment_of_signer(redis_url, own, store)
    with running_worker("security", *GEVENT, broker=redis_url, backend=redis_url, **signed) as worker:
        with sender(redis_url, redis_url) as app:
            app.send_task("accounts.open", ["eve", "unsigned"])
        worker.wait_for_log("Refusing to deserialize .*content of type json")
        forged = environment_of_signer(redis_url, stranger, tmp_path)
        client("send", environment=forged)
        worker.wait_for_log("Can't decode message body")
        output = client("await", environment=signed)
        assert f"awaited {HASH}" in output, output
        assert [line for line in worker.lines if "accounts.open" in line and "succeeded" in line][1:] == []
        assert worker.stop() == 0


def environment_of_signer(url: str, own: Certificate, store: Path) -> dict[str, str]:
    settings: dict[str, object] = {
        "security_key": str(own.key),
        "security_certificate": str(own.certificate),
        "security_cert_store": f"{store}/*.pem",
        "task_serializer": "auth",
        "event_serializer": "auth",
        "accept_content": ["auth"],
        "result_serializer": "json",
        "result_accept_content": ["json"],
    }
    return variables(url, url, settings)
