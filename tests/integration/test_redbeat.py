"""celery-redbeat runs the schedules that stand beside tasks, on one of several hosts at a time."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from celery import Celery
from pico_ioc import component
from redbeat import schedulers

from pico_celery import schedule, task
from tests import services
from tests.unit.worker.applications import app_of


@component(scope="prototype")
class Orders:
    @schedule(cron="0 3 * * *", tz="Europe/Madrid", kwargs={"days": 30}, expires="next", name="nightly")
    @schedule(every=timedelta(hours=1), args=(1,), name="hourly")
    @task("orders.purge")
    async def purge(self, days: int) -> None: ...


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 3, 28, 0, 30, tzinfo=UTC)


class Host:
    """A scheduler of redbeat, as beat runs it on one host, with a clock of the test's."""

    def __init__(self, url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[tuple[datetime, dict[str, Any]]] = []
        self.clock = clock
        self.app: Celery = app_of(Orders, broker_url="memory://", redbeat_redis_url=url, beat_max_loop_interval=60)
        monkeypatch.setattr(self.app, "now", lambda: clock.now)
        monkeypatch.setattr(self.app, "send_task", self._send)
        self.scheduler = schedulers.RedBeatScheduler(self.app, Producer=lambda *_, **__: None)
        self.scheduler.__dict__["producer"] = None
        self.scheduler.lock_key = None  # it would wait for the lock in real time

    def _send(self, name: str, args: Any, kwargs: Any, **options: Any) -> None:
        if name != "orders.purge":  # redbeat has an entry of Celery's own, which cleans up results
            return
        self.sent.append((self.clock.now, {"args": args, "kwargs": kwargs, "expires": options.get("expires")}))

    def close(self) -> None:
        client: redis.Redis = schedulers.get_redis(self.app)
        client.close()


@pytest.mark.services
def test_redbeat_sends_each_run_once_at_the_time_of_its_zone(monkeypatch):
    clock = Clock()
    with services.redis_database() as url:
        one, other = (Host(url, clock, monkeypatch) for _ in range(2))
        # redbeat runs an entry that it does not know yet at once.
        for host in (one, other):
            host.scheduler.tick()
            host.sent.clear()
        turn = 0
        while clock.now < datetime(2026, 3, 31, tzinfo=UTC):
            clock.now += timedelta(minutes=5)
            turn += 1
            # The host that has the lock changes now and then.
            (one if turn // 100 % 2 else other).scheduler.tick()
        sent = sorted([*one.sent, *other.sent], key=lambda run: run[0])
        nightly = [(when, run["expires"]) for when, run in sent if run["kwargs"]]
        assert nightly == [
            (datetime(2026, 3, 28, 2, tzinfo=UTC), datetime(2026, 3, 29, 1, tzinfo=UTC)),
            (datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 3, 30, 1, tzinfo=UTC)),
            (datetime(2026, 3, 30, 1, tzinfo=UTC), datetime(2026, 3, 31, 1, tzinfo=UTC)),
        ]
        hourly = [run for _, run in sent if not run["kwargs"]]
        assert {tuple(run["args"]) for run in hourly} == {(1,)}
        assert 60 <= len(hourly) <= 72
        for host in (one, other):
            host.close()
