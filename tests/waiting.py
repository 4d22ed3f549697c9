"""Waiting for an event, instead of for a fixed time."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def eventually(condition: Callable[[], _T], timeout: float = 90, explain: Callable[[], object] = str) -> _T:
    """Return what a condition says as soon as that is true."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"It did not happen within {timeout} s: {explain()}")
        time.sleep(0.01)


async def until(condition: Callable[[], object], timeout: float = 90) -> None:
    """Let others run until a condition is true."""
    async with asyncio.timeout(timeout):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
