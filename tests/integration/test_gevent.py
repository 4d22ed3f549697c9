"""The gevent pool on real brokers: what the project promises first."""

import signal
import time
from collections.abc import Iterator

import pytest
from celery import Celery
from celery.result import ResultSet

from tests.integration.shared import Records
from tests.integration.workers import running_worker, sender

pytestmark = pytest.mark.smoke


def send(app: Celery, name: str, count: int, *args: object) -> ResultSet:
    return ResultSet([app.send_task(name, args) for _ in range(count)], app=app)


@pytest.fixture
def app(redis_url: str) -> Iterator[Celery]:
    with sender(redis_url, redis_url) as app:
        yield app


@pytest.mark.timeout(420)
def test_all_of_2000_tasks_succeed_and_half_second_waits_overlap(app: Celery, redis_url: str) -> None:
    with running_worker("basic", "-P", "gevent", "-c", "1000", broker=redis_url, backend=redis_url) as worker:
        assert send(app, "basic.noop", 2000).get(timeout=200) == [None] * 2000
        started = time.monotonic()
        assert send(app, "basic.sleep", 2000, 0.5).get(timeout=200) == [0.5] * 2000
        # Twice a thousand at once: far from the 1,000 seconds of one after the other.
        assert time.monotonic() - started < 100
        assert worker.stop() == 0
        assert "Traceback" not in worker.log
        assert "RuntimeWarning" not in worker.log


def test_tasks_of_one_process_share_the_backends_connections(app: Celery, redis_url: str) -> None:
    with running_worker("basic", "-P", "gevent", "-c", "50", broker=redis_url, backend=redis_url):
        send(app, "basic.noop", 500).get(timeout=60)
        database = app.backend.client.connection_pool.connection_kwargs["db"]
        clients = [client for client in app.backend.client.client_list() if client["db"] == str(database)]
        # One for each of the 500 tasks would be there otherwise.
        assert len(clients) < 100


def test_rabbitmq(rabbitmq_url: str, rabbitmq_queue: str, redis_url: str) -> None:
    options = ("-P", "gevent", "-c", "100")
    with (
        sender(rabbitmq_url, redis_url, rabbitmq_queue) as app,
        running_worker("basic", *options, broker=rabbitmq_url, backend=redis_url, queue=rabbitmq_queue) as worker,
    ):
        # Ten a second is what Celery 5.7 takes by itself.
        assert send(app, "basic.echo", 200, "x").get(timeout=60) == [["x"]] * 200
        assert worker.stop() == 0
        assert "Traceback" not in worker.log


def test_a_killed_workers_task_is_redelivered_and_knows_it(
    rabbitmq_url: str, rabbitmq_queue: str, redis_url: str
) -> None:
    options = ("-P", "gevent", "-c", "10", "--without-heartbeat")
    services = {"broker": rabbitmq_url, "backend": redis_url, "queue": rabbitmq_queue}
    records = Records(redis_url)
    with sender(rabbitmq_url, redis_url, rabbitmq_queue) as app, records.redis:
        with running_worker("suite", *options, **services) as first:
            result = app.send_task("canvas.redelivered", ["key"])
            records.until("key", "delivered")
            first.stop(signal.SIGKILL)
        with running_worker("suite", *options, **services):
            assert result.get(timeout=60) is True
            assert records.of("key") == ["delivered", "delivered"]
