"""What the tests of a shared worker have in hand."""

from dataclasses import dataclass

import redis
from celery import Celery
from celery.result import AsyncResult

from tests.integration.pools import Pool
from tests.integration.workers import Worker
from tests.waiting import eventually


class Records:
    """What the tasks have recorded in Redis, in order."""

    def __init__(self, url: str) -> None:
        self.redis = redis.Redis.from_url(url, decode_responses=True)

    def of(self, key: str) -> list[str]:
        """Return what is recorded under a key, such as a task's id, so far."""
        return self.redis.lrange(f"record:{key}", 0, -1)

    def until(self, key: str, last: str, timeout: float = 20) -> list[str]:
        """Return what is recorded under a key as soon as `last` is."""
        return eventually(lambda: (found := self.of(key)) and last in found and found, timeout, lambda: self.of(key))


@dataclass(frozen=True)
class SharedWorker:
    """A worker of a pool, and who sends to it."""

    pool: Pool
    process: Worker
    url: str
    app: Celery
    records: Records

    def send(self, name: str, *args: object, **options: object) -> AsyncResult:
        return self.app.send_task(name, args, **options)

    def send_with_limit(self, name: str, *args: object, **limits: float) -> AsyncResult:
        """Send a task whose limit strikes when its body has begun, and wait until it has ended.

        A limit counts from the moment that the worker takes the task: on a busy machine a short one may come before
        the body. The task is then sent again with a longer one.

        Args:
            name: The task's name.
            *args: Its arguments.
            **limits: `soft_time_limit` and `time_limit`, in seconds.
        """
        for factor in (1, 5, 25):
            result = self.send(name, *args, **{limit: seconds * factor for limit, seconds in limits.items()})
            eventually(result.ready)
            if "body" in self.records.of(result.id):
                break
        return result

    def get(self, name: str, *args: object, **options: object) -> object:
        return self.send(name, *args, **options).get(timeout=60)
