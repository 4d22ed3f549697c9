"""Tasks that each have a connection open, in a worker that may not open many."""

import asyncio
import logging
import os
import resource
from pathlib import Path
from urllib.parse import urlsplit

from celery import Celery
from kombu import Queue
from pico_ioc import DictSource, component, configuration, init

from pico_celery import task

if limit := int(os.environ.get("TEST_FILES", "0")):
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

_server = urlsplit(os.environ["TEST_BACKEND_URL"])


@component(scope="prototype")
class FileTasks:
    @task("files.connect", acks_late=True)
    async def connect(self, seconds: float) -> int:
        """Hold a connection."""
        _, writer = await asyncio.open_connection(_server.hostname, _server.port)
        await asyncio.sleep(seconds)
        writer.close()
        await writer.wait_closed()
        return os.getpid()

    @task("files.take_all", acks_late=True)
    async def take_all(self, until: str) -> int:
        """Open all that the process may open, and hold it until there is a file."""
        opened = []
        try:
            while True:
                opened.append(os.dup(2))
        except OSError:
            await asyncio.sleep(0.1)
            logging.getLogger(__name__).warning("All files are open")
            while not Path(until).exists():  # noqa: ASYNC110, ASYNC240  # nothing else needs no file
                await asyncio.sleep(0.05)
        finally:
            for number in opened:
                os.close(number)
        return len(opened)

    @task("files.nothing")
    async def nothing(self) -> None: ...


_queue = os.environ.get("TEST_QUEUE", "celery")
settings = {
    "broker_url": os.environ["TEST_BROKER_URL"],
    "backend_url": os.environ["TEST_BACKEND_URL"],
    "task_default_queue": _queue,
    "pico_dead_letters_queue": f"{_queue}-dead",
    "task_queues": [Queue(_queue, routing_key=_queue)],
}
container = init(modules=["pico_celery", __name__], config=configuration(DictSource({"celery": settings})))
app = container.get(Celery)
