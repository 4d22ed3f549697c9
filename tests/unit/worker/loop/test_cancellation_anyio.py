"""Time limits and cancellations strike through anyio's groups and scopes as through asyncio's own."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded
from hypothesis import given, settings
from hypothesis import strategies as st

from pico_celery_worker.loop.cancellation import CancelScope

Block = Callable[[], AbstractAsyncContextManager[Any]]

LONG = 60


@asynccontextmanager
async def anyio_group() -> AsyncIterator[None]:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, LONG)
        yield


@asynccontextmanager
async def empty_anyio_group() -> AsyncIterator[None]:
    async with anyio.create_task_group():
        yield


@asynccontextmanager
async def asyncio_group() -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(LONG))
        yield


@asynccontextmanager
async def asyncio_timeout() -> AsyncIterator[None]:
    async with asyncio.timeout(LONG):
        yield


@asynccontextmanager
async def move_on_after() -> AsyncIterator[None]:
    with anyio.move_on_after(LONG):
        yield


@asynccontextmanager
async def fail_after() -> AsyncIterator[None]:
    with anyio.fail_after(LONG):
        yield


@asynccontextmanager
async def shield() -> AsyncIterator[None]:
    with anyio.CancelScope(shield=True):
        yield


@asynccontextmanager
async def slow_cleanup() -> AsyncIterator[None]:
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.lowlevel.checkpoint()
        await asyncio.sleep(0)


BLOCKS: list[Block] = [
    anyio_group,
    empty_anyio_group,
    asyncio_group,
    asyncio_timeout,
    move_on_after,
    fail_after,
    shield,
    slow_cleanup,
]


async def _wait_in_thread() -> None:
    await anyio.to_thread.run_sync(lambda: None)
    await anyio.sleep(LONG)


WAITS: list[Callable[[], Awaitable[Any]]] = [lambda: anyio.sleep(LONG), lambda: asyncio.sleep(LONG), _wait_in_thread]

EXPECTED = {"soft": SoftTimeLimitExceeded, "hard": TimeLimitExceeded, "cancel": asyncio.CancelledError}


async def outcome(how: str, body: Callable[[asyncio.Event], Awaitable[Any]]) -> Any:
    """Interrupt a body once it waits, and return what becomes of it."""
    cancel_scope, waits = CancelScope("tests.run[an-id]"), asyncio.Event()

    async def coroutine() -> Any:
        return await body(waits)

    task = asyncio.create_task(cancel_scope.guard(coroutine()))
    await waits.wait()
    if how == "soft":
        cancel_scope.soft_timeout(SoftTimeLimitExceeded(1))
    elif how == "hard":
        cancel_scope._time_out(1)
    else:
        cancel_scope.cancel()
    done, _ = await asyncio.wait([task], timeout=30)
    assert done, "it still runs"
    return task


@pytest.mark.parametrize("how", EXPECTED)
@given(blocks=st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=4), wait=st.sampled_from(WAITS))
@settings(max_examples=60, deadline=None)
def test_nothing_after_the_blocks_runs(how: str, blocks: list[Block], wait: Callable[[], Awaitable[Any]]) -> None:
    after: list[str] = []

    async def body(waits: asyncio.Event) -> str:
        async with AsyncExitStack() as stack:
            for block in blocks:
                await stack.enter_async_context(block())
            asyncio.get_running_loop().call_soon(waits.set)
            await wait()
            after.append("in the block")
        after.append("after the block")
        return "went on"

    async def run() -> None:
        task = await outcome(how, body)
        assert after == []
        with pytest.raises(EXPECTED[how]):
            await task

    asyncio.run(run())


@pytest.mark.timeout(420)
@given(outside=st.sampled_from(BLOCKS), inside=st.sampled_from(BLOCKS))
@settings(max_examples=64, deadline=None)
def test_a_soft_limit_that_is_caught_in_a_block_lets_the_body_go_on(outside: Block, inside: Block) -> None:
    async def body(waits: asyncio.Event) -> str:
        caught = 0
        with anyio.CancelScope() as children:
            async with outside():
                try:
                    async with inside():
                        waits.set()
                        await anyio.sleep(LONG)
                except* SoftTimeLimitExceeded:
                    caught += 1
                gc.collect()  # asyncio's groups leave cycles, in which the soft limit would still seem to be under way
                await asyncio.sleep(0)
                children.cancel()  # or a group would wait for its children
                await anyio.lowlevel.checkpoint()
        with anyio.move_on_after(0):
            await anyio.sleep(LONG)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.sleep(LONG)
        await asyncio.sleep(0)
        return f"caught {caught}"

    async def run() -> None:
        assert await (await outcome("soft", body)) == "caught 1"

    asyncio.run(run())
