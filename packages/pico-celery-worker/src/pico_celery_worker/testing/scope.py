"""task_scope: what a component that is made for an execution needs, in a test that runs no task."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NoReturn, TypeVar
from uuid import uuid4

from celery.app.task import Context
from celery.exceptions import MaxRetriesExceededError, Retry
from pico_ioc import PicoContainer

from pico_celery_core._pico_ioc import TASK_SCOPE
from pico_celery_core.progress import PROGRESS, Progress
from pico_celery_worker.container.plan import Plan
from pico_celery_worker.container.singletons import AsyncSingletons
from pico_celery_worker.execution.context import TaskContext
from pico_celery_worker.execution.scope import TaskScope
from pico_celery_worker.loop.current_task import executing

_T = TypeVar("_T")

# How long each clean-up hook may take, in seconds, as in a worker whose settings say nothing of it.
_CLEANUP_TIMEOUT = 10.0


class OpenTaskScope:
    """The scope of an execution while it is open in a test; `task_scope` makes it.

    Args:
        container: Where components come from.
        scope: Their scope.
        task: What stands in the place of Celery's task.
    """

    context: TaskContext
    """The context that components of this scope get."""

    def __init__(self, container: PicoContainer, scope: TaskScope, task: "_Task") -> None:
        self._container = container
        self._scope = scope
        self._task = task
        self.context = container.get(TaskContext) if container.has(TaskContext) else TaskContext()

    async def get(self, key: type[_T]) -> _T:
        """Get a component as a worker gets it: asynchronously at every depth, and cleaned up when the scope ends.

        Args:
            key: The component's class.

        Raises:
            PicoError: If it cannot be built, or something that it needs.
        """
        component: _T = await Plan(self._container, key, AsyncSingletons(self._container)).resolve(self._scope)
        return component

    @property
    def states(self) -> list[tuple[str, Mapping[str, Any]]]:
        """The states that were stored, and what was stored with each, progress included."""
        return self._task.states

    @property
    def progress(self) -> list[Progress]:
        """The progress that was stored, step by step."""
        return [Progress.from_meta(meta) for state, meta in self._task.states if state == PROGRESS]


@asynccontextmanager
async def task_scope(
    container: PicoContainer,
    *,
    id: str | None = None,  # noqa: A002  # as TaskContext calls it
    name: str = "tests.task",
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    retries: int = 0,
    max_retries: int | None = 3,
    time_limit: float | None = None,
    headers: Mapping[str, Any] | None = None,
    redelivered: bool = False,
    parent_id: str | None = None,
    root_id: str | None = None,
) -> AsyncGenerator[OpenTaskScope]:
    """Open the scope "task" in a test, so that a component can be built which asks for `TaskContext` or shares others.

    Until its end, `container.aget` builds what is made for an execution, and `TaskContext` says what is given here. A
    state or progress is kept in the scope, `retry` raises what it would raise in a worker, and nothing is sent. At its
    end what was made for the scope is cleaned up.

    Args:
        container: A container with `pico_celery` among its modules.
        id: The execution's id; a new one, unless given.
        name: The task's name.
        args: The message's positional arguments.
        kwargs: The message's keyword arguments.
        retries: How many times the task was retried before.
        max_retries: How many retries it may make; None for any number.
        time_limit: Its time limit, in seconds, which is not enforced here.
        headers: The message's own headers.
        redelivered: Whether the broker delivered the message before.
        parent_id: The id of the task that sent it.
        root_id: The id of the first task in the row; its own, unless given.

    Returns:
        An asynchronous context manager.

    Example:
        >>> import asyncio
        >>> from pico_celery import Progress
        >>> from pico_ioc import init
        >>> async def test_progress() -> None:
        ...     async with task_scope(init(modules=["pico_celery"]), id="7") as scope:
        ...         assert scope.context.id == "7"
        ...         await scope.context.progress(1, 2)
        ...         assert scope.progress == [Progress(1, 2)]
        >>> asyncio.run(test_progress())
    """
    task_id = id or str(uuid4())
    request = Context(
        id=task_id,
        args=list(args),
        kwargs=dict(kwargs or {}),
        retries=retries,
        time_limit=time_limit,
        headers=dict(headers or {}),
        delivery_info={"redelivered": redelivered},
        parent_id=parent_id,
        root_id=root_id or task_id,
        called_directly=False,
    )
    task = _Task(name, request, max_retries)
    container.scopes.register_scope(TASK_SCOPE)
    stand_in: Any = task
    token = executing.set(stand_in)
    try:
        async with TaskScope(container, f"{name}[{task_id}]", _CLEANUP_TIMEOUT) as scope:
            yield OpenTaskScope(container, scope, task)
    finally:
        executing.reset(token)


class _Task:
    """As much of a Celery task as `TaskContext` asks for."""

    time_limit = None

    def __init__(self, name: str, request: Context, max_retries: int | None) -> None:
        self.name = name
        self.request = request
        self.max_retries = max_retries
        self.states: list[tuple[str, Mapping[str, Any]]] = []

    def update_state(self, *, task_id: str, state: str, meta: Mapping[str, Any]) -> None:  # noqa: ARG002
        self.states.append((state, meta))

    def retry(
        self,
        *,
        countdown: float | None = None,
        eta: datetime | None = None,
        exc: Exception | None = None,
        max_retries: int | None = None,
        **_: Any,
    ) -> NoReturn:
        limit = self.max_retries if max_retries is None else max_retries
        if limit is not None and self.request.retries >= limit:
            raise exc or MaxRetriesExceededError(f"Can't retry {self.name}[{self.request.id}]")
        raise Retry(exc=exc, when=eta or countdown)
