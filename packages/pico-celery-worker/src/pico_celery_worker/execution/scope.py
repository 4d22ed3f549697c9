"""The scope "task": what was made for one execution, and its end."""

import itertools
from types import TracebackType
from typing import Any, Final, Self

from pico_ioc import PicoContainer

from pico_celery_core import _pico_ioc as access
from pico_celery_worker.container.cleanup import clean_up
from pico_celery_worker.loop import child_tasks

_ids: Final = itertools.count(1)


class TaskScope:
    """One execution's scope: opened before its component is resolved, cleaned up when it ends, however it ends.

    Args:
        container: The container that resolves within it.
        label: Names the execution in the log.
        cleanup_timeout: How long each hook may take, and what the execution has left running, in seconds.
    """

    __slots__ = ("_cleanup_timeout", "_container", "_id", "_label", "_started", "_tokens", "created")

    def __init__(self, container: PicoContainer, label: str, cleanup_timeout: float) -> None:
        self._container = container
        self._label = label
        self._cleanup_timeout = cleanup_timeout
        self._id = next(_ids)
        self._started = child_tasks.ChildTasks(label)
        self._tokens: tuple[Any, ...] = ()
        self.created: list[Any] = []

    @property
    def instances(self) -> Any:
        """The container's store of the task-scoped instances of this execution."""
        return access.task_instances(self._container)

    async def __aenter__(self) -> Self:
        container = self._container
        self._tokens = (
            child_tasks.started.set(self._started),
            container.activate(),
            container.activate_scope(access.TASK_SCOPE, self._id),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        started, current, scope = self._tokens
        child_tasks.started.reset(started)
        try:
            if self._started:
                await child_tasks.cancel(self._started, self._cleanup_timeout)
        finally:
            try:
                await self._clean_up()
            finally:
                access.forget_task_scope(self._container, self._id)
                self._container.deactivate_scope(access.TASK_SCOPE, scope)
                self._container.deactivate(current)

    async def _clean_up(self) -> None:
        """Clean up in reverse order of creation; what a hook's own dependencies bring comes after."""
        done: dict[int, Any] = {}
        while True:
            # What the handler itself asked the container for came after what was resolved for it.
            made = access.task_scope_instances(self._container, self._id)
            if not (made or self.created):
                return
            made = [access.unwrap_proxy(item) for item in made]
            new = {id(instance): instance for instance in [*self.created, *made] if id(instance) not in done}
            if not new:
                return
            done.update(new)
            await clean_up(self._container, reversed(new.values()), self._label, self._cleanup_timeout)
