"""Tasks that each have a connection open, in a worker that may not open many."""

import asyncio
import os
import resource
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
