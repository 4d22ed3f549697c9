"""What a worker cannot run is kept as a dead letter, on each broker and pool, and runs when it is sent again."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import NotRegistered

from pico_celery_core.errors import HandlerArgumentsError
from pico_celery_worker.dead_letters import DeadLetters
from tests import services
from tests.integration.workers import ROOT, running_worker, sender
from tests.waiting import eventually

pytestmark = [pytest.mark.services, pytest.mark.timeout(420)]


@dataclass
class Shop:
    """Where orders are sent to.

    Args:
        app: Sends them.
        environment: Of the workers, and of the command.
    """

    app: Celery
    environment: dict[str, str]

    def worker(self, *options: str, **more: str) -> Any:
        variables = self.environment
        return running_worker(
            "dead_letters",
            *options,
            broker=variables["TEST_BROKER_URL"],
            backend=variables["TEST_BACKEND_URL"],
            queue=variables["TEST_QUEUE"],
            **more,
        )

    def pico(self, *arguments: str, code: int = 0, **more: str) -> Any:
        """Run `celery pico`, and return what it prints as JSON."""
        done = subprocess.run(
            [sys.executable, "-m", "celery", "-A", "tests.integration.apps.dead_letters", "pico", *arguments, "--json"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **self.environment, **more},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def shop(request: pytest.FixtureRequest) -> Iterator[Shop]:
    """A queue on the broker that the test is given."""
    with services.redis_database() as url, services.rabbitmq_queue() as queue:
        broker = services.rabbitmq_url() if request.param == "rabbitmq" else url
        with sender(broker, url, queue) as app:
            app.conf.pico_dead_letters_queue = f"{queue}-dead"
            yield Shop(app, {"TEST_BROKER_URL": broker, "TEST_BACKEND_URL": url, "TEST_QUEUE": queue})


@pytest.mark.parametrize(("shop", "pool"), [("redis", "gevent"), ("rabbitmq", "prefork")], indirect=["shop"])
def test_nothing_is_lost_over_a_deploy(shop: Shop, pool: str) -> None:
    letters = DeadLetters(shop.app)
    send = shop.app.send_task
    with shop.worker("-P", pool, "-c", "2") as old:
        unknown = send("orders.cancel", (1,))
        with pytest.raises(NotRegistered):
            unknown.get(timeout=60)
        unfit = send("orders.confirm", kwargs={"order": 2})
        with pytest.raises(HandlerArgumentsError):
            unfit.get(timeout=60)
        failed = send("orders.fail")
        with pytest.raises(ValueError, match="out of stock"):
            failed.get(timeout=60)
        masked = send("orders.pay", (4,), {"crad": "4929"})
        with pytest.raises(HandlerArgumentsError):
            masked.get(timeout=60)
        with shop.app.producer_pool.acquire() as producer:
            headers = {"task": "orders.confirm", "id": "undecodable"}
            json_type = {"content_type": "application/json", "content_encoding": "utf-8"}
            producer.publish(b"{", routing_key=shop.app.conf.task_default_queue, headers=headers, **json_type)
        assert send("orders.confirm", (5,)).get(timeout=60) == "order 5"
        eventually(lambda: letters.count() == 5)
        assert old.stop() == 0
    listed = shop.pico("dead", "list")["letters"]
    assert {letter["task_id"]: (letter["reason"], letter["kwargs"]) for letter in listed} == {
        unknown.id: ("unknown-task", "***"),
        unfit.id: ("arguments", "{'order': 2}"),
        failed.id: ("failure", "{}"),
        masked.id: ("arguments", "{'crad': '***'}"),
        "undecodable": ("undecodable", "(cannot be decoded)"),
    }
    assert "out of stock" in letters.get(failed.id).traceback
    assert len(letters.retry(unknown.id, unfit.id)) == 2
    with shop.worker("-P", pool, "-c", "2", TEST_DEPLOYED="new"):
        assert eventually(lambda: shop.app.AsyncResult(unknown.id).state == "SUCCESS")
        assert eventually(lambda: shop.app.AsyncResult(unfit.id).state == "SUCCESS")
    assert len(letters.drop(error="out of stock")) == 1
    assert letters.count() == 2
