"""Records: what happens in a worker, where a test can read it."""

import asyncio
import os

import redis
from pico_ioc import component


@component
class Records:
    """Writes down what happens, in the order in which it happens."""

    def __init__(self) -> None:
        self.redis = redis.Redis.from_url(os.environ["TEST_BACKEND_URL"], decode_responses=True)

    def add(self, key: str, what: str) -> None:
        """Record something under a key, such as a task's id."""
        self.redis.rpush(f"record:{key}", what)

    def arrive(self, key: str) -> int:
        """Count an arrival, and return how many there are."""
        return self.redis.incr(f"arrivals:{key}")

    async def all_arrived(self, key: str, count: int = 1) -> None:
        """Wait for so many arrivals."""
        while int(self.redis.get(f"arrivals:{key}") or 0) < count:  # noqa: ASYNC110  # they are in other processes
            await asyncio.sleep(0.02)
