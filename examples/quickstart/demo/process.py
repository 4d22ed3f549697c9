"""The worker, as a process of its own."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

COMMAND = "celery -A examples.quickstart.worker worker -P gevent -c 100 --loglevel INFO"

_T = TypeVar("_T")

# How long the worker may take to finish what it runs, in seconds.
_GRACE = 10.0


class WorkerEndedError(Exception):
    """The worker ended before its work was done."""


class Worker:
    """A running worker and its log."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.pid = process.pid
        self.log: list[str] = []
        self._process = process
        self._ready = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stdout
        async for line in self._process.stdout:
            text = line.decode(errors="replace").rstrip()
            self.log.append(text)
            if text.endswith(" ready."):
                self._ready.set()

    async def ready(self) -> None:
        """Wait until the worker takes messages."""
        await self._ready.wait()

    async def ended(self) -> int:
        """Wait for its end, and return its exit code."""
        return await self._process.wait()

    async def watch(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Await something that needs the worker; raise WorkerEndedError if the worker ends before it is done."""
        working, ending = asyncio.create_task(work), asyncio.create_task(self._process.wait())
        try:
            await asyncio.wait({working, ending}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            raise WorkerEndedError(f"The worker ended with exit code {ending.result()}.")
        finally:
            working.cancel()
            ending.cancel()
            await asyncio.gather(working, ending, return_exceptions=True)

    async def stop(self) -> None:
        """Let the worker finish what it runs, and wait for its end. One that takes too long is killed."""
        try:
            if self._process.returncode is None:
                self._process.terminate()
            async with asyncio.timeout(_GRACE):
                await self._process.wait()
        except TimeoutError:
            self.log.append(f"Killed, because it did not stop within {_GRACE:g} seconds.")
        finally:
            if self._process.returncode is None:
                os.killpg(self.pid, signal.SIGKILL)
                await self._process.wait()
            await self._reading


@asynccontextmanager
async def run_worker(command: str = COMMAND) -> AsyncGenerator[Worker]:
    """Start the worker, and stop it at the end of the block, however that ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *command.split(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,  # so that Ctrl-C reaches the demo alone, which then stops the worker
    )
    worker = Worker(process)
    try:
        yield worker
    finally:
        await worker.stop()
