"""AsyncTask: Celery's options and hooks mean for an async handler what they mean for a plain function."""

import asyncio
import contextlib
import gc
from typing import Any

import pytest
from celery import Celery, Task, chain, group
from celery.exceptions import Ignore, MaxRetriesExceededError, Reject
from celery.exceptions import Retry as CeleryRetry
from pico_ioc import PicoContainer, component
from pydantic import BaseModel

from pico_celery import TaskContext, task
from pico_celery_core.errors import HandlerArgumentsError, ResolutionError

BODIES = {
    "value": lambda: "done",
    "ValueError": lambda: _raise(ValueError("broken")),
    "KeyError": lambda: _raise(KeyError("missing")),
    "Ignore": lambda: _raise(Ignore()),
    "Reject": lambda: _raise(Reject("no", requeue=False)),
}


def _raise(error: Exception) -> None:
    raise error


OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "autoretry_for": {"autoretry_for": (ValueError,), "default_retry_delay": 0},
    "max_retries": {"autoretry_for": (ValueError,), "max_retries": 1, "default_retry_delay": 0},
    "no retries": {"autoretry_for": (ValueError,), "max_retries": 0},
    "retry_kwargs": {"autoretry_for": (ValueError,), "retry_kwargs": {"max_retries": 2, "countdown": 0}},
    "backoff": {"autoretry_for": (LookupError,), "retry_backoff": 2, "retry_backoff_max": 4, "retry_jitter": False},
    "jitter": {"autoretry_for": (ValueError,), "retry_backoff": True, "retry_jitter": True, "max_retries": 2},
    "all but one": {"autoretry_for": (Exception,), "dont_autoretry_for": (KeyError,), "default_retry_delay": 0},
    "throws": {"throws": (ValueError,)},
    "ignore_result": {"ignore_result": True},
    "store_eager_result": {"store_eager_result": False},
}


def described(app: Celery, result: Any, runs: int) -> dict[str, Any]:
    return {
        "state": result.state,
        "result": repr(result.result),
        "runs": runs,
        "has traceback": bool(result.traceback),
        "stored": app.AsyncResult(result.id).state,
    }


@pytest.mark.parametrize("how", BODIES)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_same_options_give_the_same_states_and_number_of_runs_as_with_a_plain_task(app, container, options, how):
    runs = {"plain": 0, "async": 0}

    @app.task(name="plain", shared=False, **options)
    def plain() -> Any:
        runs["plain"] += 1
        return BODIES[how]()

    @component(scope="prototype")
    class Tasks:
        @task("async", **options)
        async def run(self) -> Any:
            runs["async"] += 1
            await asyncio.sleep(0)
            return BODIES[how]()

    container(Tasks)
    wanted = described(app, plain.apply(), runs["plain"])
    got = described(app, app.tasks["async"].apply(), runs["async"])
    assert got == wanted
    assert wanted["runs"] >= 1


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"countdown": 0},
        {"countdown": 0, "max_retries": 1},
        {"exc": OSError("later"), "max_retries": 1, "countdown": 0},
        {"args": ("other",), "max_retries": 1},
        {"throw": False, "max_retries": 1},
    ],
    ids=str,
)
def test_retry_inside_a_bound_task_is_celerys(app, container, arguments):
    seen: dict[str, list[Any]] = {"plain": [], "async": []}

    @app.task(name="plain", shared=False, bind=True, default_retry_delay=0)
    def plain(self: Task, value: str) -> str:
        seen["plain"].append((value, self.request.retries))
        self.retry(**arguments)
        return "went on"

    @component(scope="prototype")
    class Tasks:
        @task("async", bind=True, default_retry_delay=0)
        async def run(self, bound: Task, value: str) -> str:
            await asyncio.sleep(0)
            seen["async"].append((value, bound.request.retries))
            bound.retry(**arguments)
            return "went on"

    container(Tasks)
    results = [target.apply(args=["first"]) for target in (plain, app.tasks["async"])]
    assert seen["async"] == seen["plain"]
    assert results[1].state == results[0].state
    assert type(results[1].result) is type(results[0].result)


@pytest.mark.parametrize("arguments", [{"args": (5,)}, {"kwargs": {"a": 7}}], ids=str)
@pytest.mark.parametrize("sent", [((), {"a": 1, "b": 2}), ((1, 2), {}), ((1,), {"b": 2})], ids=str)
def test_a_retry_of_a_bound_task_changes_the_arguments_it_names(app, container, arguments, sent):
    @app.task(name="plain", shared=False, bind=True, default_retry_delay=0)
    def plain(self: Task, a: int, b: int = 0) -> Any:
        return (a, b) if self.request.retries else self.retry(**arguments)

    @component(scope="prototype")
    class Tasks:
        @task("async", bind=True, default_retry_delay=0)
        async def run(self, bound: Task, a: int, b: int = 0) -> Any:
            return (a, b) if bound.request.retries else bound.retry(**arguments)

    container(Tasks)
    theirs, ours = (target.apply(*sent).get() for target in (plain, app.tasks["async"]))
    assert ours == theirs


def test_retry_takes_its_arguments_by_position_too(app, container):
    @component(scope="prototype")
    class Tasks:
        @task("async", bind=True)
        async def run(self, bound: Task) -> Any:
            if not bound.request.retries:
                bound.retry((), {}, None, True, None, 0, 1)
            return bound.request.retries

    container(Tasks)
    assert app.tasks["async"].apply().get() == 1


def test_what_retry_raises_when_none_is_left_can_be_caught(app, container):
    @component(scope="prototype")
    class Tasks:
        @task("fallback", bind=True, max_retries=0)
        async def fallback(self, bound: Task) -> str:
            try:
                bound.retry(countdown=0)
            except MaxRetriesExceededError:
                return "fallback"
            return ""

        @task("own", bind=True)
        async def own(self, bound: Task) -> str:
            try:
                bound.retry(exc=KeyError("x"), max_retries=0)
            except KeyError:
                return "own"
            return ""

    container(Tasks)
    for name in ("fallback", "own"):
        assert app.tasks[name].apply().get() == name


@pytest.mark.parametrize("others_fail", [False, True])
def test_a_retry_that_is_asked_for_in_a_group_of_tasks(app, container, others_fail):
    @component(scope="prototype")
    class Tasks:
        @task("grouped", bind=True, max_retries=1)
        async def run(self, bound: Task) -> int:
            async def again() -> None:
                if not bound.request.retries:
                    bound.retry(countdown=0)

            async def fail() -> None:
                if others_fail:
                    raise ValueError("x")

            async with asyncio.TaskGroup() as group:
                group.create_task(again())
                group.create_task(fail())
            return bound.request.retries

    container(Tasks)
    result = app.tasks["grouped"].apply()
    if others_fail:
        assert "ExceptionGroup" in repr(result.result)
    else:
        assert result.get() == 1


def test_a_base_whose_call_would_not_be_called_is_refused(container):
    class Traced(Task):
        abstract = True

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return super().__call__(*args, **kwargs)

    @component(scope="prototype")
    class Tasks:
        @task("traced", base=Traced)
        async def run(self) -> None: ...

    with pytest.raises(Exception, match=r"its base .*Traced overrides __call__"):
        container(Tasks)


def test_bind_gives_the_task_and_leaves_it_out_of_the_signature(app, container):
    @component(scope="prototype")
    class Tasks:
        @task("bound", bind=True)
        async def run(self, bound: Task, value: int) -> tuple[str, str, int]:
            return bound.name, bound.request.id, value

    container(Tasks)
    assert app.tasks["bound"].apply(args=[3], task_id="an-id").get() == ["bound", "an-id", 3]
    with pytest.raises(TypeError):
        app.tasks["bound"].apply_async(args=[1, 2])


class Person(BaseModel):
    name: str
    age: int = 3


@pytest.mark.parametrize("bind", [False, True])
def test_pydantic_validates_arguments_and_dumps_the_value(app, container, bind):
    class Bound:
        @task("greet", pydantic=True, bind=True)
        async def greet(self, bound: Task, person: Person) -> Person:
            assert bound.name == "greet"
            return Person(name=f"Hello {person.name}", age=person.age)

    class Plain:
        @task("greet", pydantic=True)
        async def greet(self, person: Person) -> Person:
            return Person(name=f"Hello {person.name}", age=person.age)

    container(component(scope="prototype")(Bound if bind else Plain))
    assert app.tasks["greet"].delay({"name": "Ada"}).get() == {"name": "Hello Ada", "age": 3}
    with pytest.raises(ValueError, match="name"):
        app.tasks["greet"].apply(args=[{"age": 4}]).get()


class Recording(Task):
    abstract = True
    calls: list[Any]

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        self.calls.append(("before_start", task_id, args))

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        self.calls.append(("on_success", retval))

    def on_failure(self, exc: Any, *_: Any) -> None:
        self.calls.append(("on_failure", repr(exc)))

    def on_retry(self, exc: Any, *_: Any) -> None:
        self.calls.append(("on_retry", type(exc.exc)))

    def after_return(self, status: str, *_: Any) -> None:
        self.calls.append(("after_return", status))

    def helper(self) -> str:
        return "helped"


@pytest.mark.parametrize("fails", [False, True])
def test_the_hooks_of_a_base_class_run_as_with_a_plain_task(app, container, fails):
    plain_calls, async_calls = [], []
    plain_base = type("PlainBase", (Recording,), {"calls": plain_calls, "abstract": True})
    async_base = type("AsyncBase", (Recording,), {"calls": async_calls, "abstract": True})

    @app.task(name="plain", shared=False, base=plain_base, bind=True)
    def plain(self: Any, value: int) -> str:
        if fails:
            raise ValueError(value)
        return self.helper()

    @component(scope="prototype")
    class Tasks:
        @task("async", base=async_base, bind=True)
        async def run(self, bound: Any, value: int) -> str:
            if fails:
                raise ValueError(value)
            return bound.helper()

    container(Tasks)
    plain.apply(args=[1], task_id="x")
    app.tasks["async"].apply(args=[1], task_id="x")
    assert async_calls == plain_calls
    assert [call[0] for call in async_calls] == [
        "before_start",
        "on_failure" if fails else "on_success",
        "after_return",
    ]


def test_the_apps_own_task_class_is_the_base(make_app, container):
    class Own(Task):
        abstract = True

        def own(self) -> str:
            return "own"

    app = make_app()
    app.task_cls = Own

    @component(scope="prototype")
    class Tasks:
        @task("async")
        async def run(self) -> None: ...

    container(Tasks, on=app)
    assert app.tasks["async"].own() == "own"


@component(scope="prototype")
class Echo:
    def __init__(self, container: PicoContainer) -> None:
        self.container = container

    @task("echo")
    async def echo(self, value: Any = None) -> Any:
        return value

    @task("boom")
    async def boom(self) -> None:
        raise TypeError("inside the handler")


def test_arguments_that_do_not_fit_name_task_handler_and_signature(app, container):
    container(Echo)
    with pytest.raises(HandlerArgumentsError, match=r"'echo' do not fit .*Echo\.echo\(value: Any = None\)"):
        app.tasks["echo"].apply(args=[1, 2]).get()


def test_a_type_error_of_the_handler_stays_its_own(app, container):
    container(Echo)
    with pytest.raises(TypeError, match="inside the handler") as caught:
        app.tasks["boom"].apply().get()
    assert not isinstance(caught.value, HandlerArgumentsError)


def test_a_component_that_cannot_be_made_fails_the_task_by_name(app, container):
    @component(scope="prototype")
    class Tasks:
        def __init__(self, limit: int) -> None: ...

        @task("limited")
        async def run(self) -> None: ...

    container(Tasks)
    with pytest.raises(ResolutionError, match=r"'limited' could not get its component .*Tasks: .*\(Tasks → int\)"):
        app.tasks["limited"].apply().get()


def test_eager_execution_from_sync_code(app, container):
    container(Echo)
    assert app.tasks["echo"].delay("x").get() == "x"
    assert app.tasks["echo"].apply(args=["x"]).state == "SUCCESS"


async def test_eager_execution_inside_a_running_event_loop(app, container):
    container(Echo)
    assert app.tasks["echo"].apply(args=["x"]).get() == "x"
    assert app.tasks["echo"].delay("y").get() == "y"


async def test_a_retry_in_eager_execution_inside_a_running_event_loop(app, container):
    runs = []

    @component(scope="prototype")
    class Tasks:
        def __init__(self, context: TaskContext) -> None:
            self.context = context

        @task("again", autoretry_for=(ValueError,), default_retry_delay=0)
        async def run(self) -> str:
            runs.append(self.context.retries)
            if len(runs) == 1:
                raise ValueError("once")
            if len(runs) == 2:
                self.context.retry(countdown=0)
            return "done"

    container(Tasks)
    with contextlib.suppress(CeleryRetry):
        app.tasks["again"].apply().get()
    assert runs == [0, 1, 2]


def test_a_direct_call_runs_the_handler_and_waits(app, container):
    container(Echo)
    assert app.tasks["echo"]("x") == "x"
    assert app.tasks["echo"](value="y") == "y"


async def test_run_can_be_awaited(app, container):
    container(Echo)
    assert await app.tasks["echo"].run("x") == "x"
    assert await asyncio.gather(*(app.tasks["echo"].run(n) for n in range(3))) == [0, 1, 2]


async def test_a_cancelled_wait_for_run_cancels_the_handler(app, container):
    started, ended = asyncio.Event(), []

    @component(scope="prototype")
    class Tasks:
        @task("wait")
        async def wait(self) -> None:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(1)

    container(Tasks)
    running = asyncio.create_task(app.tasks["wait"].run())
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended == [1]


def test_chains_and_groups_of_async_tasks(app, container):
    container(Echo)
    echo = app.tasks["echo"]
    assert chain(echo.s("x"), echo.s()).apply().get() == "x"
    assert group(echo.s(1), echo.s(2)).apply().get() == [1, 2]


@component(scope="prototype")
class Unmakeable:
    def __init__(self, limit: int) -> None: ...

    @task("unmakeable")
    async def run(self) -> None: ...


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("echo", ("x",), None),
        ("boom", (), TypeError),
        ("boom", ("too many",), HandlerArgumentsError),
        ("unmakeable", (), ResolutionError),
    ],
)
def test_no_execution_leaves_garbage(app, container, name, arguments, error):
    container(Echo, Unmakeable)

    def run() -> None:
        with contextlib.suppress(error or ()):
            app.tasks[name](*arguments)

    run()
    gc.collect()
    gc.disable()
    try:
        for _ in range(100):
            run()
        assert gc.collect() < 100
    finally:
        gc.enable()


def test_another_apps_current_task_is_untouched(app, make_app, container):
    container(Echo)
    other: Celery = make_app()

    @other.task(name="sync", shared=False)
    def sync() -> str:
        return other.current_task.request.id

    other.finalize()
    assert sync.apply(task_id="other-id").get() == "other-id"
