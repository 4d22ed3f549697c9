"""Listening for results on backends that tell nobody: asking them again and again."""

import asyncio
import heapq
from dataclasses import dataclass
from typing import Any, Final

from celery import Celery
from celery.result import AsyncResult

from pico_celery_client.listening import Listener, Meta
from pico_celery_client.threads import DaemonThreads

_POLL: Final = (0.01, 0.5)

_pollers: Final = DaemonThreads("pico-celery-results", most=1)


@dataclass(frozen=True, slots=True, order=True)
class _Turn:
    """When to ask for a task, and how long to wait after that."""

    due: float
    pause: float
    task_id: str


class Poller(Listener):
    """Asks the backend again and again, in one thread, less often the longer nothing becomes of a task."""

    async def serve(self) -> None:
        """Ask while somebody waits."""
        loop = asyncio.get_running_loop()
        shortest, longest = _POLL
        turns: list[_Turn] = []
        current: dict[str, _Turn] = {}
        told: dict[str, Any] = {}

        def ask_again(task_id: str, pause: float, *, now: bool = False) -> None:
            turn = current[task_id] = _Turn(loop.time() + (0 if now else pause), pause, task_id)
            heapq.heappush(turns, turn)

        while await self._until_due(turns):
            came, went = self.take_changes()
            for task_id in (*went, *came):
                current.pop(task_id, None)
                told.pop(task_id, None)
            for task_id in came:
                ask_again(task_id, shortest, now=True)
            asked: dict[str, _Turn] = {}
            while turns and turns[0].due <= loop.time():
                turn = heapq.heappop(turns)
                if current.get(turn.task_id) is turn:
                    asked[turn.task_id] = turn
            results = {task_id: self.results[task_id] for task_id in asked if task_id in self.results}
            for task_id, found in (await loop.run_in_executor(_pollers, self._fetch, results)).items():
                news = told.get(task_id) != _told(found)
                if news:
                    told[task_id] = _told(found)
                    self.deliver(task_id, found)
                if current.get(task_id) is asked[task_id]:
                    ask_again(task_id, shortest if news else min(asked[task_id].pause * 1.5, longest))

    async def _until_due(self, turns: list[_Turn]) -> bool:
        """Wait until it is time to ask for a task, or until somebody comes or goes; False when nobody is left."""
        if not self.results:
            return await self.wait_for_change()
        pause = turns[0].due - asyncio.get_running_loop().time() if turns else 0
        try:
            async with asyncio.timeout(pause):
                await self.changed.wait()
        except TimeoutError:
            pass
        self.changed.clear()
        return True

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

    def __init__(self, app: Celery) -> None:
        super().__init__(app)
        self._readers: dict[str, Any] = {}

    def _backend_of(self, result: AsyncResult) -> Any:
        reply_to = vars(result)["reply_to"]
        if reply_to not in self._readers:
            backend = type(self.app.backend)
            reader = type(backend.__name__, (backend,), {"oid": reply_to})
            self._readers[reply_to] = reader(app=self.app)
        return self._readers[reply_to]


def _told(found: Meta | Exception) -> Any:
    return repr(found) if isinstance(found, Exception) else (found["status"], found.get("result"))
