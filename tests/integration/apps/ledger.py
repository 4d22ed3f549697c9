"""Tasks that write down when they begin and how they end, where it survives the process: a file for each worker."""

import asyncio
import json
import os
import time
from pathlib import Path

from celery import Celery
from kombu import Queue
from pico_ioc import DictSource, component, configuration, init

from pico_celery import TaskContext, task


@component
class Book:
    """What is written into it is with the system at once, and outlives a SIGKILL."""

    def __init__(self) -> None:
        path = Path(os.environ["TEST_LEDGER"]) / str(os.getpid())
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def write(self, what: str, task_id: str, execution: int) -> None:
        os.write(self._file, f"{time.time()} {what} {task_id} {execution}\n".encode())


@component(scope="task")
class Entry:
    """One execution of a task."""

    def __init__(self, book: Book, context: TaskContext) -> None:
        self._book = book
        self._id = context.id

    def write(self, what: str) -> None:
        self._book.write(what, self._id, id(self))

    async def __aclose__(self) -> None:
        await asyncio.sleep(0)
        self.write("cleaned")


@component(scope="prototype")
class LedgerTasks:
    def __init__(self, entry: Entry) -> None:
        self.entry = entry

    @task("ledger.work", acks_late=True)
    async def work(self, seconds: float) -> str:
        self.entry.write("began")
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.entry.write("cancelled")
            raise
        self.entry.write("finished")
        return "x" * 100


_queue = os.environ["TEST_QUEUE"]
_arguments = {"x-queue-type": "quorum"} if os.environ.get("TEST_QUORUM") else {}
settings = {
    "broker_url": os.environ["TEST_BROKER_URL"],
    "backend_url": os.environ["TEST_BACKEND_URL"],
    "task_default_queue": _queue,
    "pico_dead_letters_queue": f"{_queue}-dead",
    "task_queues": [Queue(_queue, routing_key=_queue, queue_arguments=_arguments)],
    "pico_cancel_timeout": 2,
    "pico_cleanup_timeout": 2,
    **json.loads(os.environ["TEST_SETTINGS"]),
}
container = init(modules=["pico_celery", __name__], config=configuration(DictSource({"celery": settings})))
app = container.get(Celery)
