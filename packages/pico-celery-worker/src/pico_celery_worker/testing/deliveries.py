"""Messages that are delivered twice: handlers are interrupted in the first delivery, and outcomes compared."""

import asyncio
import functools
import types
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pico_celery_worker.execution.execution import Executor
from pico_celery_worker.execution.scope import TaskScope
from pico_celery_worker.loop import current_task

if TYPE_CHECKING:
    from pico_ioc import PicoContainer

    from pico_celery_worker.testing.runner import TaskRunner

# A handler that waits more often than this is taken for one that waits without end.
_MOST_INTERRUPTIONS: Final = 1000


class Interruption:
    """Cancels handlers in the first delivery of their messages, where they wait for so many times.

    Args:
        number: Where, counted from 1.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self.places: list[str] = []
        """Where handlers were cancelled."""

    def strike(self, executor: Executor) -> None:
        """Have an executor's handler cancelled in the first delivery of each message.

        Args:
            executor: Runs the handler.
        """
        executor.plan = _InterruptingPlan(executor.plan, executor.handler.method, self)  # type: ignore[assignment]

    @types.coroutine
    def over(self, coroutine: Coroutine[Any, Any, Any], task: str) -> Generator[Any, Any, Any]:
        """Await a coroutine, and cancel it in its place.

        Args:
            coroutine: The handler's.
            task: The name of its task.
        """
        left = self._number
        try:
            waits_for = coroutine.send(None)
            while True:
                left -= 1
                running = asyncio.current_task()
                if left == 0 and running is not None:
                    self.places.append(f"{task}, {_place(coroutine)}")
                    running.cancel()  # as asyncio does: what it waits for is cancelled, and it gets to know
                try:
                    value = yield waits_for
                except BaseException as error:  # noqa: BLE001  # whatever it is, it is the coroutine's
                    waits_for = coroutine.throw(error)
                else:
                    waits_for = coroutine.send(value)
        except StopIteration as stop:
            return stop.value


class _InterruptingPlan:
    """A plan whose components have their handlers interrupted in the first delivery of a message."""

    def __init__(self, plan: Any, method: str, interruption: Interruption) -> None:
        self._plan = plan
        self._method = method
        self._interruption = interruption

    async def resolve(self, scope: TaskScope) -> Any:
        component = await self._plan.resolve(scope)
        task: Any = current_task.executing.get()
        if task.request.delivery_info.get("redelivered"):
            return component
        handler, interruption = getattr(component, self._method), self._interruption

        def interrupted(*args: Any, **kwargs: Any) -> Any:
            return interruption.over(handler(*args, **kwargs), task.name)

        return types.SimpleNamespace(**{self._method: interrupted})


def assert_redeliverable(scenario: "Callable[[Callable[[PicoContainer], TaskRunner]], object]") -> None:
    """Assert that tasks bear being run twice: that it makes no difference for what is left behind.

    A broker delivers a message again whose worker has died or was stopped before the message was acknowledged. The
    scenario is run with each message delivered once, which gives the outcome to compare with; with each delivered
    twice; and then again and again with the first delivery cancelled at the first place where the handler waits, at
    the second, and so on, and delivered again.

    A handler waits where the event loop goes on to something else: what does not wait in the test, such as a double
    that only notes its call, cannot be interrupted. Put `await asyncio.sleep(0)` where the real one waits.

    Args:
        scenario: A plain function. It makes all that is needed anew, makes and enters its `TaskRunner` by what it is
            given, sends, and returns what is left behind, as something that can be compared.

    Raises:
        AssertionError: If an outcome differs, with all that do.

    Example:
        >>> from pico_celery import task
        >>> from pico_celery_worker.testing import assert_redeliverable
        >>> from tests.unit.worker.applications import application
        >>> from pico_ioc import component
        >>> @component(scope="prototype")
        ... class Counting:
        ...     total = 0
        ...     @task("count")
        ...     async def count(self) -> None:
        ...         Counting.total += 1
        >>> def scenario(run):
        ...     Counting.total = 0
        ...     with run(application(Counting)) as runner:
        ...         runner.run(Counting.count)
        ...     return Counting.total
        >>> assert_redeliverable(scenario)
        Traceback (most recent call last):
            ...
        AssertionError: These tasks do not bear a second delivery.
          each message delivered once: 1
          each message delivered twice: 2
    """
    from pico_celery_worker.testing.runner import TaskRunner  # noqa: PLC0415  # which imports this module

    runners: list[TaskRunner] = []

    def start(container: "PicoContainer", **options: Any) -> "TaskRunner":
        runners.append(TaskRunner(container, **options))
        return runners[-1]

    expected = scenario(start)
    differing: dict[str, object] = {}
    outcome = scenario(functools.partial(start, deliveries="twice"))
    if outcome != expected:
        differing["each message delivered twice"] = outcome
    for number in range(1, _MOST_INTERRUPTIONS + 1):
        runners.clear()
        outcome = scenario(functools.partial(start, deliveries="twice", interrupt_at=number))
        places = [place for runner in runners for place in runner.interrupted]
        if not places:
            break
        if outcome != expected:
            differing[f"cancelled at wait {number} ({'; '.join(places)}), and delivered again"] = outcome
    if differing:
        lines = [f"  {how}: {outcome!r}" for how, outcome in differing.items()]
        first = f"  each message delivered once: {expected!r}"
        raise AssertionError("\n".join(["These tasks do not bear a second delivery.", first, *lines]))


def _place(coroutine: Any) -> str:
    frame = coroutine.cr_frame
    return "" if frame is None else f"{Path(frame.f_code.co_filename).name} line {frame.f_lineno}"
