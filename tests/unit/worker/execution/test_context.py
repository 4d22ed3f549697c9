"""TaskContext: what a running task may know and say about itself."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from celery._state import pop_current_task, push_current_task
from celery.exceptions import Ignore, MaxRetriesExceededError, Reject, Retry
from pico_ioc import component
from pydantic import BaseModel

from pico_celery import TaskContext, task
from tests.waiting import until


@component(scope="prototype")
class Service:
    """Whatever is made for an execution may know it."""

    def __init__(self, context: TaskContext) -> None:
        self.context = context


class Page(BaseModel):
    number: int


class Known:
    """What a handler saw."""

    values: dict[str, Any]
    runs: int


@pytest.fixture
def known() -> Known:
    known = Known()
    known.values, known.runs = {}, 0
    return known


NAMES = (
    "id name args kwargs retries max_retries redelivered parent_id root_id headers deadline".split()  # noqa: SIM905
)


@pytest.fixture
def tasks(app, container, known):
    @component(scope="prototype")
    class Tasks:
        def __init__(self, context: TaskContext, service: Service) -> None:
            assert service.context is context
            self.context = context

        @task("context.know", max_retries=5)
        async def know(self, *args: Any, **kwargs: Any) -> None:
            await asyncio.sleep(0)
            known.values = {name: getattr(self.context, name) for name in NAMES}

        @task("context.limited", time_limit=30)
        async def limited(self) -> None:
            known.values = {"deadline": self.context.deadline}

        @task("context.progress")
        async def progress(self, name: str) -> str:
            if name == "progress":
                await self.context.progress(3, 4, "drawing", Page(number=3))
            else:
                await self.context.update_state("HALFWAY", {"pages": [1, 2]})
            known.values = dict(app.backend.get_task_meta(self.context.id))
            return "done"

        @task("context.retry", default_retry_delay=0)
        async def retry(self, arguments: dict[str, Any]) -> str:
            known.runs += 1
            await asyncio.sleep(0)
            self.context.retry(**arguments)

    container(Service, Tasks)
    return app.tasks


@contextlib.contextmanager
def received(handler: Any, **request: Any) -> Iterator[None]:
    """Make a task current as Celery's tracer does."""
    push_current_task(handler)
    handler.push_request(called_directly=False, **request)
    try:
        yield
    finally:
        handler.pop_request()
        pop_current_task()


def test_what_a_task_knows_of_itself(tasks, known):
    message = {"id": "an-id", "root_id": "root", "parent_id": "parent", "headers": {"tenant": "x"}, "retries": 2}
    with received(tasks["context.know"], args=[1, 2], kwargs={"three": 3}, **message):
        tasks["context.know"](1, 2, three=3)
    assert known.values == {
        "id": "an-id",
        "name": "context.know",
        "args": [1, 2],
        "kwargs": {"three": 3},
        "retries": 2,
        "max_retries": 5,
        "redelivered": False,
        "parent_id": "parent",
        "root_id": "root",
        "headers": {"tenant": "x"},
        "deadline": None,
    }


def test_a_task_without_anything_knows_that(tasks, known):
    tasks["context.know"].apply(task_id="an-id")
    assert known.values["args"] == ()
    assert known.values["kwargs"] == {}
    assert known.values["retries"] == 0
    assert known.values["parent_id"] is None
    assert known.values["headers"] == {}


def test_a_message_that_comes_again_is_known(tasks, known):
    with received(tasks["context.know"], id="an-id", delivery_info={"redelivered": True}):
        tasks["context.know"]()
    assert known.values["redelivered"] is True


def test_the_deadline_comes_from_the_time_limit(tasks, known):
    before = datetime.now(UTC)
    tasks["context.limited"].apply()
    assert before + timedelta(seconds=29) < known.values["deadline"] <= datetime.now(UTC) + timedelta(seconds=30)


def test_progress_can_be_read_from_the_result_backend(tasks, known):
    result = tasks["context.progress"].apply(args=["progress"], task_id="an-id")
    assert known.values["status"] == "PROGRESS"
    assert known.values["result"] == {"current": 3, "total": 4, "message": "drawing", "details": {"number": 3}}
    assert result.get() == "done"


def test_a_state_of_the_tasks_own_can_be_read_from_the_result_backend(tasks, known):
    tasks["context.progress"].apply(args=["state"], task_id="an-id")
    assert known.values["status"] == "HALFWAY"
    assert known.values["result"] == {"pages": [1, 2]}


@pytest.mark.parametrize(
    ("arguments", "runs", "error"),
    [
        ({"countdown": 0, "max_retries": 2}, 3, MaxRetriesExceededError),
        ({"max_retries": 0}, 1, MaxRetriesExceededError),
        ({"countdown": 0, "max_retries": 1, "exc": OSError("later")}, 2, OSError),
        ({"eta": datetime(2026, 1, 1, tzinfo=UTC), "max_retries": 1}, 2, MaxRetriesExceededError),
        ({}, 4, MaxRetriesExceededError),
    ],
    ids=str,
)
def test_retry_tries_again_until_no_retries_are_left(tasks, known, arguments, runs, error):
    result = tasks["context.retry"].apply(args=[arguments])
    assert result.state == "FAILURE"
    assert type(result.result) is error
    assert known.runs == runs


@pytest.mark.parametrize("ending", [Retry("again"), Ignore(), Reject("no")], ids=repr)
@pytest.mark.parametrize("is_optional", [False, True])
def test_a_component_that_is_made_for_the_execution_may_end_it(app, container, ending, is_optional):
    @component(scope="prototype")
    class Part:
        async def __ainit__(self) -> None:
            raise ending

    wanted: Any = Part | None if is_optional else Part

    @component(scope="prototype")
    class Tasks:
        def __init__(self, part: wanted = None) -> None: ...

        @task("ended")
        async def run(self) -> None:
            pytest.fail("it must not run")

    container(Tasks, Part)
    handler = app.tasks["ended"]
    with received(handler, id="an-id", args=(), kwargs={}), pytest.raises(type(ending)) as caught:
        handler()
    assert caught.value is ending


async def test_a_state_that_is_being_stored_when_the_task_is_interrupted_comes_before_its_end():
    events: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def store(**_: Any) -> None:
        begun.set()
        go_on.wait(60)
        events.append("stored")

    context = TaskContext.__new__(TaskContext)
    vars(context).update(_task=SimpleNamespace(update_state=store), _request=SimpleNamespace(id="an-id"))
    progress = asyncio.create_task(context.progress(1))
    progress.add_done_callback(lambda _: events.append("ended"))
    await until(begun.is_set)
    progress.cancel()
    asyncio.get_running_loop().call_soon(go_on.set)
    await asyncio.wait([progress])
    assert progress.cancelled()
    assert events == ["stored", "ended"]


def test_retry_sends_the_message_again_with_the_same_id_when_the_execution_has_ended(app, container):
    sent = []

    @component(scope="prototype")
    class Tasks:
        def __init__(self, context: TaskContext) -> None:
            self.context = context

        async def __aclose__(self) -> None:
            sent.append("cleaned up")

        @task("again")
        async def again(self, value: str) -> None:
            self.context.retry(countdown=7, exc=OSError("later"))

    container(Tasks)
    handler = app.tasks["again"]
    handler.signature_from_request = _recording(handler.signature_from_request, sent)
    with received(handler, id="an-id", args=("x",), kwargs={}, retries=0), pytest.raises(Retry) as caught:
        handler("x")
    assert sent == ["cleaned up", {"countdown": 7, "task_id": "an-id", "retries": 1}]
    assert type(caught.value) is Retry
    assert caught.value.when == 7
    assert isinstance(caught.value.exc, OSError)


def _recording(original: Any, sent: list[Any]) -> Any:
    def signature(*args: Any, **kwargs: Any) -> Any:
        made = original(*args, **kwargs)
        names = ("countdown", "task_id", "retries")
        made.apply_async = lambda: sent.append({name: made.options.get(name) for name in names})
        return made

    return signature


def test_a_retry_that_the_handler_wraps_in_a_finally_still_counts(app, container):
    runs = []

    @component(scope="prototype")
    class Tasks:
        def __init__(self, context: TaskContext) -> None:
            self.context = context

        @task("again")
        async def again(self) -> str:
            runs.append(self.context.retries)
            try:
                if self.context.retries < 2:
                    self.context.retry(countdown=0)
            finally:
                await asyncio.sleep(0)
            return "done"

    container(Tasks)
    with contextlib.suppress(Retry):
        app.tasks["again"].apply().get()
    assert runs == [0, 1, 2]


async def test_a_handler_that_is_awaited_has_a_context_of_its_own(app, container, known, tasks):
    await tasks["context.know"].run(1)
    assert known.values["name"] == "context.know"

    @component(scope="prototype")
    class Outer:
        def __init__(self, context: TaskContext) -> None:
            self.context = context

        @task("outer")
        async def outer(self) -> tuple[str, str]:
            await tasks["context.know"].run()
            return self.context.name, self.context.id

    container(Outer)
    assert app.tasks["outer"].apply(task_id="outer-id").get() == ["outer", "outer-id"]
    assert known.values["name"] == "context.know"


def test_outside_of_a_task_there_is_no_context():
    with pytest.raises(LookupError, match="only while a task is executed"):
        TaskContext()


def test_a_direct_call_has_a_context(tasks, known):
    tasks["context.know"](1, two=2)
    assert known.values["name"] == "context.know"
    assert (known.values["args"], known.values["kwargs"]) == ((1,), {"two": 2})
