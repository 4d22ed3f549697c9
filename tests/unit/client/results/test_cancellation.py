"""Cancelling tasks, with workers that answer as they are told."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from celery import Celery

from pico_celery_client import TaskResult, cancel_all
from pico_celery_core.errors import CancelTimeoutError
from pico_celery_core.revocation import COMMAND, LIFETIME
from tests import services
from tests.waiting import until

pytestmark = [pytest.mark.services, pytest.mark.filterwarnings("ignore:.*setex.*:DeprecationWarning")]

# How long to wait for what comes, and for what does not, in seconds.
LONG = 90
SHORT = 1

Answers = dict[str, str]


class Workers:
    """Take the place of workers."""

    def __init__(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.app = Celery("tests", broker=url, backend=url, set_as_current=False)
        self.redis = redis.Redis.from_url(url, decode_responses=True)
        self.asked: list[list[str]] = []
        self.replies: list[Any] = []
        self.then: Callable[[], object] = bool
        monkeypatch.setattr(self.app.control, "broadcast", self._hear)

    def _hear(self, command: str, arguments: Any, callback: Any, **options: Any) -> None:
        assert (command, options["reply"]) == (COMMAND, True)
        self.asked.append(arguments["task_ids"])
        for reply in self.replies:
            callback({"celery@host": reply})
        self.then()

    def add(self, name: str, answers: Answers | None = None, key: str = "unacked:workers", lifetime: int = 60) -> None:
        """Have a worker be there, which answers if it has answers."""
        self.redis.zadd(key, {name: self.now() + lifetime})
        if answers is not None:
            self.replies.append({"worker": name, "answers": answers})

    def now(self) -> int:
        return self.redis.time()[0]

    def store(self, task_id: str, state: str) -> None:
        self.app.backend.store_result(task_id, None, state)

    def result(self, task_id: str) -> TaskResult[None]:
        return TaskResult(task_id, app=self.app)

    async def cancel(self, task_id: str = "it", timeout: float = LONG) -> bool:
        return await self.result(task_id).cancel(timeout)

    def close(self) -> None:
        self.app.close()
        self.app.backend.result_consumer.stop()
        self.app.backend.client.close()
        self.redis.close()


@pytest.fixture
def workers(monkeypatch) -> Iterator[Workers]:
    with services.redis_database() as url:
        made = Workers(url, monkeypatch)
        yield made
        made.close()


async def test_what_no_worker_can_have_is_remembered_for_those_who_come(workers):
    workers.redis.zadd("unacked:revoked", {"old": workers.now() - 1})
    workers.add("dead", lifetime=-1)
    assert await workers.cancel()
    [(task_id, until)] = workers.redis.zrange("unacked:revoked", 0, -1, withscores=True)
    assert task_id == "it"
    assert 0 <= workers.now() + LIFETIME - until < LONG
    assert workers.result("it").state == "REVOKED"
    assert workers.asked == []


async def test_what_all_workers_say_that_they_do_not_have_does_not_run_either(workers):
    workers.add("one", {})
    workers.add("two", {})
    assert await workers.cancel()
    assert workers.result("it").state == "REVOKED"


@pytest.mark.parametrize(("answer", "is_cancelled"), [("revoked", True), ("ended", False)])
async def test_what_the_worker_says_that_has_it_holds(workers, answer, is_cancelled):
    workers.add("silent")
    workers.add("one", {"it": answer})
    assert await workers.cancel() is is_cancelled


@pytest.mark.parametrize(("state", "is_cancelled"), [("REVOKED", True), ("SUCCESS", False), ("FAILURE", False)])
async def test_the_end_is_awaited_of_what_still_runs(workers, state, is_cancelled):
    workers.add("one", {"it": "running"})
    workers.store("it", "STARTED")
    cancelling = asyncio.ensure_future(workers.cancel())
    await until(lambda: workers.asked, LONG)
    workers.store("it", state)
    assert await cancelling is is_cancelled


async def test_what_does_not_end_in_time_is_not_certain(workers):
    workers.add("one", {"it": "running"})
    with pytest.raises(CancelTimeoutError, match="it is being cancelled, and has not ended yet"):
        await workers.cancel(timeout=SHORT)


@pytest.mark.parametrize(("state", "is_cancelled"), [("REVOKED", True), ("SUCCESS", False), ("FAILURE", False)])
async def test_what_had_ended_stays_as_it_is(workers, state, is_cancelled):
    workers.add("silent")
    workers.store("it", state)
    assert await workers.cancel() is is_cancelled
    assert workers.result("it").state == state


async def test_a_worker_that_does_not_answer_may_have_it(workers):
    workers.add("one", {})
    workers.add("silent")
    workers.replies.append({"error": "KeyError('pico_revoke')"})
    with pytest.raises(CancelTimeoutError, match="only 1 of 2 workers have answered") as raised:
        await workers.cancel(timeout=SHORT)
    assert (raised.value.task_id, raised.value.timeout) == ("it", SHORT)
    assert isinstance(raised.value, TimeoutError)
    assert workers.result("it").state == "PENDING"


async def test_an_ignored_result_is_not_looked_for(workers):
    workers.add("one", {})
    result = workers.result("it")
    result.ignored = True
    assert await result.cancel(LONG)
    result.ignored = False
    assert result.state == "PENDING"


async def test_many_are_cancelled_at_once(workers):
    ids = [f"task {number}" for number in range(50)]
    workers.add("one", {task_id: "ended" if task_id == "task 7" else "revoked" for task_id in ids})
    cancelled = await cancel_all(*map(workers.result, ids), timeout=LONG)
    assert cancelled == [task_id != "task 7" for task_id in ids]
    assert sorted(task_id for asked in workers.asked for task_id in asked) == sorted(ids)


async def test_one_that_is_not_certain_among_many_raises(workers):
    workers.add("one", {"first": "revoked"})
    workers.add("silent")
    with pytest.raises(CancelTimeoutError, match="task second"):
        await cancel_all(workers.result("first"), workers.result("second"), timeout=SHORT)


async def test_none_at_all_are_cancelled_at_once():
    assert await cancel_all() == []


async def test_what_goes_wrong_is_the_callers(workers):
    def fail() -> None:
        raise OSError("no route to the broker")

    workers.add("one")
    workers.then = fail
    with pytest.raises(OSError, match="no route"):
        await workers.cancel()


async def test_what_an_application_calls_its_keys_holds_for_these(workers):
    workers.app.conf.broker_transport_options = {"global_keyprefix": "shop:", "unacked_key": "pending"}
    workers.redis.zadd("shop:pending:revoked", {"old": 1})
    workers.add("one", {"it": "revoked"}, key="shop:pending:workers")
    assert await workers.cancel()
    assert workers.redis.zrange("shop:pending:revoked", 0, -1) == ["it"]
    assert workers.asked == [["it"]]


def test_each_event_loop_may_cancel(workers):
    workers.add("one", {"it": "revoked"})
    assert [asyncio.run(workers.cancel()) for _ in range(2)] == [True, True]


async def test_where_workers_are_not_known_those_hold_that_answer(app, monkeypatch):
    def broadcast(_: str, *, callback: Any, **options: Any) -> None:
        with_it = {"celery@host": {"worker": "one", "answers": {"it": "revoked"}}}
        if options["arguments"]["task_ids"] == ["it"]:
            callback(with_it)

    monkeypatch.setattr(app.control, "broadcast", broadcast)
    assert await TaskResult[None]("it", app=app).cancel(LONG)
    with pytest.raises(CancelTimeoutError, match="this broker does not tell which workers there are"):
        await TaskResult[None]("other", app=app).cancel(SHORT)
