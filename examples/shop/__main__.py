"""`hatch run shop`: starts the web service, a worker and the schedule, without any server, and prints the address."""

import argparse
import asyncio
import os
import signal
import socket
import sys
from collections.abc import Generator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import uvicorn

from examples.quickstart.demo.embedded import broker_in_the_environment
from examples.quickstart.demo.process import Worker, run_worker

WORKER = "celery -A examples.shop.worker.app worker -P gevent -c 1000 --loglevel INFO"
SCHEDULE = "celery -A examples.shop.worker.app beat --loglevel INFO --pidfile= --schedule {folder}/beat"


class Server(uvicorn.Server):
    """Leaves the signals to who runs it, and tells when and where it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    @property
    def address(self) -> str:
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"http://{host}:{port}"


async def serve(host: str, port: int, folder: str) -> int:
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    async with AsyncExitStack() as stack:
        worker = await stack.enter_async_context(run_worker(WORKER))
        schedule = await stack.enter_async_context(run_worker(SCHEDULE.format(folder=folder)))
        server = Server(
            uvicorn.Config("examples.shop.web.app:app", host, port, log_level="warning", timeout_graceful_shutdown=2)
        )
        serving = asyncio.create_task(server.serve())
        stopping = asyncio.create_task(stop.wait())
        ready = asyncio.create_task(tell(server, worker))
        ended = [asyncio.create_task(process.ended()) for process in (worker, schedule)]
        await asyncio.wait({stopping, serving, *ended}, return_when=asyncio.FIRST_COMPLETED)
        failed = not stopping.done()
        print("Stopping." if not failed else "Something has ended by itself.", flush=True)
        server.should_exit = True
        await serving
        for waiting in (ready, stopping, *ended):
            waiting.cancel()
        await asyncio.gather(ready, stopping, *ended, return_exceptions=True)
    if failed:
        print(*worker.log, *schedule.log, sep="\n", file=sys.stderr)
    return int(failed)


async def tell(server: Server, worker: Worker) -> None:
    await server.listens.wait()
    await worker.ready()
    print(f"The shop is open: {server.address} (Ctrl-C closes it)", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="hatch run shop", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="0 for any that is free (default: %(default)s)")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="shop-") as folder, broker_in_the_environment() as broker:
        os.environ["CELERY_WORKER_ENABLE_REMOTE_CONTROL"] = "true"  # by which orders are cancelled
        os.environ.setdefault("DATABASE_URL", f"sqlite+aiosqlite:///{Path(folder, 'shop.db')}")
        print(f"Messages and results go through {broker}.", flush=True)
        return asyncio.run(serve(arguments.host, arguments.port, folder))


if __name__ == "__main__":
    sys.exit(main())
