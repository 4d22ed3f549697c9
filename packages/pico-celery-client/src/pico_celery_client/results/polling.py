"""Listening for results on backends that tell nobody: asking them again and again."""

import asyncio
import heapq
from dataclasses import dataclass
from typing import Any, Final

from celery.result import AsyncResult

from pico_celery_client.per_app import PerApp
from pico_celery_client.publishing.thread_pool import DaemonThreads
from pico_celery_client.results.listener import Listener, Meta, state_key

_POLL: Final = (0.01, 0.5)

_pollers: Final = PerApp(lambda _: DaemonThreads("pico-celery-results", most=1))


@dataclass(frozen=True, slots=True, order=True)
class _ScheduledPoll:
    """When to ask for a task, and how long to wait after that."""

    due: float
    pause: float
    task_id: str


class Poller(Listener):
    """Asks the backend again and again, in one thread of the app, less often the longer nothing becomes of a task."""

    async def serve(self) -> None:
        """Ask while somebody waits."""
        loop = asyncio.get_running_loop()
        shortest, longest = _POLL
        turns: list[_ScheduledPoll] = []
        current: dict[str, _ScheduledPoll] = {}
        told: dict[str, tuple[str, str]] = {}

        def ask_again(task_id: str, pause: float, *, now: bool = False) -> None:
            turn = current[task_id] = _ScheduledPoll(loop.time() + (0 if now else pause), pause, task_id)
            heapq.heappush(turns, turn)

        while self.results:
            await self._until_due(turns)
            came, went = self.take_changes()
            for task_id in (*went, *came):
                current.pop(task_id, None)
                told.pop(task_id, None)
            for task_id in came:
                ask_again(task_id, shortest, now=True)
            asked: dict[str, _ScheduledPoll] = {}
            while turns and turns[0].due <= loop.time():
                turn = heapq.heappop(turns)
                if current.get(turn.task_id) is turn:
                    asked[turn.task_id] = turn
            if not asked:
                continue
            results = {task_id: self.results[task_id] for task_id in asked if task_id in self.results}
            for task_id, found in (await loop.run_in_executor(_pollers.of(self.app), self._fetch, results)).items():
                news = told.get(task_id) != state_key(found)
                if news:
                    told[task_id] = state_key(found)
                    self.deliver(task_id, found)
                if current.get(task_id) is asked[task_id]:
                    ask_again(task_id, shortest if news else min(asked[task_id].pause * 1.5, longest))

    async def _until_due(self, turns: list[_ScheduledPoll]) -> None:
        """Wait until it is time to ask for a task, or until somebody comes or goes."""
        pause = turns[0].due - asyncio.get_running_loop().time() if turns else 0
        try:
            async with asyncio.timeout(pause):
                await self.changed.wait()
        except TimeoutError:
            pass
        self.changed.clear()

    def _fetch(self, results: dict[str, AsyncResult]) -> dict[str, Meta | Exception]:
        found: dict[str, Meta | Exception] = {}
        for task_id, result in results.items():
            try:
                found[task_id] = self._backend_of(result).get_task_meta(task_id)
            except Exception as error:  # noqa: BLE001  # whoever waits for it is told
                found[task_id] = error
        return found

    def _backend_of(self, result: AsyncResult) -> Any:  # noqa: ARG002
        # Celery keeps a backend for each thread; this is the polling thread's.
        return self.app.backend


class RpcPoller(Poller):
    """Reads the queues to which workers reply: one belongs to each thread that has sent."""

    def _backend_of(self, result: AsyncResult) -> Any:
        backend = self.app.backend
        # A reader keeps what it finds for others, so it lives as long as the thread, which is longer than a poller.
        readers = vars(backend).setdefault("pico_readers", {})
        reply_to = vars(result)["reply_to"]
        if reply_to not in readers:
            kind = type(backend)
            reader = type(kind.__name__, (kind,), {"oid": reply_to})
            readers[reply_to] = reader(app=self.app)
        return readers[reply_to]
