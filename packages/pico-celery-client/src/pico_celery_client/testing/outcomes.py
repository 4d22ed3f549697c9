"""What becomes of the tasks that were sent, as the test has said beforehand."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, TypeVar

from celery import Celery, states
from celery.exceptions import TimeoutError as CeleryTimeoutError

from pico_celery_client.results.result import TaskResult
from pico_celery_core.errors import PicoCeleryError, ResultTimeoutError
from pico_celery_core.progress import Progress
from pico_celery_core.suggestions import near_miss
from pico_celery_core.testing.memory import MemoryBackend

_R = TypeVar("_R")


class NoOutcomeError(PicoCeleryError, AssertionError):
    """The result of a task is awaited, and the test has set up none."""

    task: str
    suggestion: str = ""
    template = "No result is set up for {task!r}. {hint}"

    @property
    def hint(self) -> str:
        """What to do."""
        if self.suggestion:
            return f"There is one for {self.suggestion!r}: is that a misspelling?"
        return f"Call returns({self.task!r}, value) or raises({self.task!r}, error) before it is sent."


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of a task.

    Args:
        state: Celery's name for how it ends.
        value: What the handler returns or raises.
        delay: How long after it was sent, in seconds.
    """

    state: str
    value: Any
    delay: float


class Outcomes(MemoryBackend):
    """A result backend in which a task's result appears when its time has come.

    Args:
        app: Whose settings say how to encode.
    """

    def __init__(self, app: Celery) -> None:
        super().__init__(app)
        self.prepared: dict[str, deque[Outcome]] = {}
        self._due: dict[Any, float] = {}
        self._tasks: dict[str, str] = {}

    def returning(self, value: Any, delay: float) -> Outcome:
        """Make the outcome of a handler that returns a value, as the caller gets it.

        Raises:
            kombu.exceptions.EncodeError: If no worker could store it.
        """
        return Outcome(states.SUCCESS, self.decode(self.encode(value)), delay)

    def raising(self, error: Exception, delay: float) -> Outcome:
        """Make the outcome of a handler that raises an exception.

        Raises:
            TypeError: If the caller would get something else, which the result backend makes of it.
        """
        stored = self.decode(self.encode(self.prepare_exception(error)))
        received = self.exception_to_python(stored)
        if type(received) is not type(error):
            kind = type(error)
            raise TypeError(
                f"From a worker, {kind.__module__}.{kind.__qualname__} would arrive as {received!r}. A result backend "
                "keeps an exception's class by its name, and what its serializer can encode: the class must stand at "
                "the top of a module, and say the same without the rest."
            )
        return Outcome(states.FAILURE, error, delay)

    def decide(self, task_id: str, task: str) -> None:
        """Give a task that was sent its outcome, if one is prepared; the last one is for all that come after it."""
        self._tasks[task_id] = task
        prepared = self.prepared.get(task)
        if prepared:
            outcome = prepared.popleft() if len(prepared) > 1 else prepared[0]
            self._due[self.get_key_for_task(task_id)] = time.monotonic() + outcome.delay
            self.store_result(task_id, outcome.value, outcome.state)

    def remaining(self, task_id: str) -> float:
        """Return after how many seconds a task's result will be there.

        Raises:
            NoOutcomeError: If none was prepared.
        """
        due = self._due.get(self.get_key_for_task(task_id))
        if due is None:
            task = self._tasks.get(task_id, f"a task with the id {task_id}")
            raise NoOutcomeError(task, near_miss(task, self.prepared))
        return max(due - time.monotonic(), 0)

    def revoke(self, task_id: str) -> None:
        """Let a task be revoked, whatever was prepared."""
        key = self.get_key_for_task(task_id)
        self.delete(key)  # a SUCCESS would stay
        self._due[key] = time.monotonic()
        self.mark_as_revoked(task_id, "cancelled")

    def get(self, key: Any) -> Any:
        """Return what is kept under a key, unless its time has not come."""
        return super().get(key) if time.monotonic() >= self._due.get(key, 0) else None

    def wait_for(self, task_id: str, timeout: float | None = None, *_: Any, **__: Any) -> Any:
        """Wait for a task's result.

        Raises:
            NoOutcomeError: If none was prepared.
            celery.exceptions.TimeoutError: If it does not come in time.
        """
        remaining = self.remaining(task_id)
        if timeout is not None and remaining > timeout:
            time.sleep(max(timeout, 0))
            raise CeleryTimeoutError("The operation timed out.")
        while remaining:
            time.sleep(remaining)
            remaining = self.remaining(task_id)
        return self.get_task_meta(task_id)


class PreparedResult(TaskResult[_R]):
    """The result of a task that was only recorded."""

    async def until_ready(self, timeout: float | None = None) -> None:
        """Wait for the prepared outcome, as `TaskResult.until_ready`; `wait` does as well.

        Raises:
            NoOutcomeError: If none was prepared.
            ResultTimeoutError: If it does not come in time.
        """
        if not self.ignored:
            remaining = self._remaining()
            timeout = self._limit(timeout)
            if timeout is not None and remaining > timeout:
                await asyncio.sleep(timeout)
                raise ResultTimeoutError(str(self.id), timeout)
            await asyncio.sleep(remaining)

    async def cancel(self, timeout: float = 5) -> bool:  # noqa: ARG002
        """Cancel the task: the prepared outcome does not come, unless it is there already.

        Returns:
            Whether it was not there yet.
        """
        outcomes: Any = self.backend
        state = self.state
        if state not in states.READY_STATES:
            outcomes.revoke(self.id)
        return state == states.REVOKED or state not in states.READY_STATES

    async def progress(self, details: Any = None, *, latest: bool = False) -> AsyncGenerator[Progress[Any]]:  # noqa: ARG002
        """Wait for the end; a task that was only recorded makes no progress."""
        if not self.ignored:
            await asyncio.sleep(self._remaining())
        steps: tuple[Progress, ...] = ()
        for step in steps:
            yield step

    def _remaining(self) -> float:
        outcomes: Any = self.backend
        seconds: float = outcomes.remaining(self.id)
        return seconds
