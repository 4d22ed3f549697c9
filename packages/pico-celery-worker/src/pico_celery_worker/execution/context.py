"""TaskContext: what a running task may know and say about itself."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from celery import Task
from pico_ioc import component

from pico_celery_core._pico_ioc import TASK_SCOPE
from pico_celery_core.progress import PROGRESS, Progress
from pico_celery_core.values.details import plain_details
from pico_celery_worker.loop.blocking import run_blocking
from pico_celery_worker.loop.current_task import executing


@component(scope=TASK_SCOPE)
class TaskContext:
    """The execution that a component belongs to. Inject it into any component that is made for an execution.

    Example:
        >>> from pico_celery import TaskContext, task
        >>> from pico_ioc import component
        >>> @component(scope="prototype")
        ... class Reports:
        ...     def __init__(self, context: TaskContext):
        ...         self.context = context
        ...
        ...     @task("reports.build")
        ...     async def build(self, pages: int) -> str:
        ...         for page in range(pages):
        ...             await self.context.progress(page, pages, "building")
        ...         return f"{self.context.id}.pdf"
    """

    def __init__(self) -> None:
        task = executing.get()
        if task is None:
            raise LookupError(
                "TaskContext exists only while a task is executed: let it be injected, or ask for it there. "
                "In a test, open a task_scope of pico_celery.testing."
            )
        self._task: Task = task
        self._request = self._task.request
        limit = self._request.time_limit or self._task.time_limit
        self._deadline = None if limit is None else datetime.now(UTC) + timedelta(seconds=limit)

    @property
    def id(self) -> str:
        """The execution's id; a retry keeps it."""
        return str(self._request.id)

    @property
    def name(self) -> str:
        """The task's name."""
        return str(self._task.name)

    @property
    def args(self) -> Sequence[Any]:
        """The message's positional arguments."""
        return self._request.args or ()

    @property
    def kwargs(self) -> Mapping[str, Any]:
        """The message's keyword arguments."""
        return self._request.kwargs or {}

    @property
    def retries(self) -> int:
        """How many times the task was retried before."""
        return int(self._request.retries or 0)

    @property
    def max_retries(self) -> int | None:
        """How many retries the task may make; None for any number."""
        limit: int | None = self._task.max_retries
        return limit

    @property
    def redelivered(self) -> bool:
        """Whether the broker delivered the message before."""
        return bool((self._request.delivery_info or {}).get("redelivered"))

    @property
    def parent_id(self) -> str | None:
        """The id of the task that sent this one."""
        parent: str | None = self._request.parent_id
        return parent

    @property
    def root_id(self) -> str | None:
        """The id of the first task in the row that led to this one."""
        root: str | None = self._request.root_id
        return root

    @property
    def headers(self) -> Mapping[str, Any]:
        """The message's own headers, without Celery's."""
        return self._request.headers or {}

    @property
    def deadline(self) -> datetime | None:
        """When the task is cut off by its time limit, if it has one."""
        return self._deadline

    def retry(
        self,
        *,
        countdown: float | None = None,
        eta: datetime | None = None,
        exc: Exception | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> NoReturn:
        """End this execution and try again later. It never returns.

        Args:
            countdown: When to try again, in seconds from now; without it and `eta`, the task's `default_retry_delay`.
            eta: When to try again.
            exc: Why; it becomes the task's failure when no retries are left.
            max_retries: How many retries this task may make, instead of its own `max_retries`.
            **options: What else Celery's `Task.retry` takes.

        Raises:
            celery.exceptions.Retry: Always, while retries are left. Let it pass.
            celery.exceptions.MaxRetriesExceededError: If none is left and there is no `exc`.
        """
        self._task.retry(countdown=countdown, eta=eta, exc=exc, max_retries=max_retries, **options)
        raise AssertionError("Task.retry has returned")

    async def progress(
        self, current: float, total: float | None = None, message: str = "", details: object = None
    ) -> None:
        """Report how far the task is. A caller reads it from the task's result.

        Args:
            current: What is done.
            total: What there is to do, if that is known.
            message: What the task is doing.
            details: What else there is to tell: whatever a handler may return, models and dataclasses for instance.

        Raises:
            ResultTypeError: If the details would not arrive as they are.
        """
        told = None if details is None else plain_details(self.name, details)
        await self.update_state(PROGRESS, Progress(current, total, message, told).as_meta())

    async def update_state(self, state: str, meta: Mapping[str, Any] | None = None) -> None:
        """Store a state of the task's own in the result backend.

        Args:
            state: The state's name, such as "PROGRESS".
            meta: What to store with it; the result backend must be able to encode it.
        """
        storing = asyncio.ensure_future(
            run_blocking(self._task.update_state, task_id=self.id, state=state, meta=dict(meta or {}))
        )
        try:
            await asyncio.shield(storing)
        except asyncio.CancelledError:
            # A thread goes on all the same, and must not come after what is stored when the task has ended.
            await asyncio.gather(storing, return_exceptions=True)
            raise
