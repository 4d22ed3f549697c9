"""`pico check` finds what is wrong, and nothing in a good app."""

import inspect
import time
from time import sleep
from typing import Any
from urllib.request import urlopen

import pytest
from celery import Celery
from pico_ioc import DictSource, component, configuration, init

from pico_celery import CeleryClient, celery, run_blocking, send_task, task
from pico_celery_worker.cli.checks import POOLS, Finding, Severity, check, expected_pool
from pico_celery_worker.cli.checks.blocking import blocking_calls
from pico_celery_worker.cli.inspection import inspect_app
from tests.unit.worker.applications import app_of
from tests.unit.worker.containers import module_of
from tests.unit.worker.tasks import postponed

ERROR, WARNING, INFO = Severity


@component(scope="prototype")
class GoodTasks:
    @task("good.work", bind=True, max_retries=3, soft_time_limit=10, time_limit=20)
    async def work(self, task, number: int, *, times: int = 1) -> int:
        return number * times

    @task("good.rest")
    async def rest(self, seconds: float) -> None:
        await run_blocking(sleep, seconds)


@celery
class GoodClient(CeleryClient):
    @send_task("good.work")
    def work(self, number: int, *, times: int = 1) -> int: ...

    @send_task("good.work")
    async def awork(self, number: int, *, times: int = 1) -> int: ...


def findings(app: Celery, pool: str = "gevent") -> list[Finding]:
    inspection = inspect_app(app)
    assert inspection
    return check(inspection, pool)


def found(*components, pool: str = "gevent", **settings) -> list[tuple[str, Severity, str]]:
    """Return what is found in an app of these components: code, severity and place, without the module's name."""
    return [
        (finding.code, finding.severity, finding.where.replace(f"{__name__}.", "").rpartition("<locals>.")[2])
        for finding in findings(app_of(*components, **settings), pool)
    ]


def plain() -> None:
    """A task as Celery has them without this project."""


def found_in_settings(pool: str = "gevent", **settings) -> list[tuple[str, Severity, str]]:
    return found(GoodTasks, pool=pool, **settings)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(
    "settings",
    [{}, {"broker_url": "redis://nowhere", "backend_url": "redis://nowhere", "result_backend_thread_safe": True}],
)
def test_a_good_app_has_no_findings(pool, settings):
    assert found(GoodTasks, GoodClient, pool=pool, **settings) == []


def test_errors_come_first():
    @component
    class Tasks:
        @task("work")
        async def work(self, number: int) -> None: ...

    @celery
    class Client(CeleryClient):
        @send_task("elsewhere")
        def elsewhere(self) -> None: ...

        @send_task("work")
        def work(self, count: int) -> None: ...

    assert [severity for _, severity, _ in found(Tasks, Client)] == [ERROR, WARNING, INFO]


def test_every_finding_says_what_is_wrong_and_what_to_do():
    @component
    class Tasks:
        @task("work", soft_time_limit=2, time_limit=1)
        async def work(self) -> None:
            time.sleep(1)  # noqa: ASYNC251

    app = app_of(Tasks, broker_url="memory://", worker_prefetch_multiplier=0, accept_content=["pickle"])
    for finding in findings(app):
        assert finding.problem.endswith(".")
        assert finding.hint.endswith((".", ").", "?"))
        assert finding.code.replace("-", "").isalpha()


def patched_sleep(seconds: float) -> None:
    """What gevent puts in the place of `time.sleep`, for instance."""


class TestComponents:
    def test_an_app_with_nothing_in_it(self):
        assert found() == [("no-tasks", WARNING, "the container")]

    def test_an_app_that_only_sends_is_no_mistake(self):
        assert [severity for _, severity, _ in found(GoodClient)] == [INFO, INFO]

    def test_a_singleton_task_component(self):
        @component
        class Tasks:
            @task("one")
            async def one(self) -> None: ...

            @task("two")
            async def two(self) -> None: ...

        assert found(Tasks) == [("singleton-component", WARNING, "Tasks")]

    def test_an_async_singleton_that_no_task_reaches(self):
        @component(lazy=True)
        class Pool:
            async def __ainit__(self) -> None: ...

        assert found(GoodTasks, Pool) == [("unreached-singleton", INFO, "Pool")]

    def test_an_async_singleton_that_a_task_reaches_is_no_mistake(self):
        @component(lazy=True)
        class Pool:
            async def __ainit__(self) -> None: ...

        @component(scope="prototype")
        class Tasks:
            def __init__(self, pool: Pool) -> None: ...

            @task("query")
            async def query(self) -> None: ...

        assert found(Tasks, Pool) == []


class TestContracts:
    def test_a_stub_whose_handler_is_elsewhere(self):
        @celery
        class Client(CeleryClient):
            @send_task("elsewhere")
            def work(self) -> None: ...

        assert found(GoodTasks, Client) == [("no-handler", INFO, "Client.work")]

    def test_a_stub_of_a_plain_task_of_celery_has_its_handler(self):
        @celery
        class Client(CeleryClient):
            @send_task("plain")
            def work(self) -> None: ...

        app = app_of(GoodTasks, Client)
        app.task(name="plain", shared=False)(plain)

        assert findings(app) == []

    def test_a_call_that_the_handler_refuses(self):
        @celery
        class Client(CeleryClient):
            @send_task("good.rest")
            def rest(self, duration: float) -> None: ...

        (finding,) = findings(app_of(GoodTasks, Client))
        assert (finding.code, finding.severity) == ("contract", ERROR)
        assert finding.problem == (
            "(duration=...) does not fit: missing a required argument: 'seconds'. "
            f"The handler is {__name__}.GoodTasks.rest(seconds: float) -> None."
        )

    def test_a_stub_that_takes_anything(self):
        @celery
        class Client(CeleryClient):
            @send_task("good.rest")
            def rest(self, **kwargs) -> None: ...

        assert found(GoodTasks, Client) == [("loose-contract", WARNING, "Client.rest")]

    def test_another_default_and_another_type(self):
        @celery
        class Client(CeleryClient):
            @send_task("good.work")
            def work(self, number: str, *, times: int = 2) -> int: ...

        first, second = findings(app_of(GoodTasks, Client))
        assert (first.code, second.code) == ("contract-differs", "contract-differs")
        assert "'number' is str in the stub and int in the handler" in first.problem
        assert "'times' defaults to 2 in the stub" in second.problem


class TestHandlers:
    def test_an_annotation_that_may_be_a_models_and_cannot_be_evaluated(self):
        (finding,) = findings(app_of(postponed.Model))
        assert (finding.code, finding.severity) == ("annotation", ERROR)
        assert finding.where == f"{postponed.__name__}.Model.run"
        assert finding.problem.startswith("The annotation of its parameter 'order', 'Unseen', cannot be evaluated")

    def test_a_bound_handler_that_takes_no_task(self):
        @component(scope="prototype")
        class Tasks:
            @task("lost", bind=True)
            async def lost(self, *, number: int = 1) -> None: ...

        assert found(Tasks) == [("bind", ERROR, "Tasks.lost")]

    @pytest.mark.filterwarnings(r"ignore:\s*The 'queue' task attribute")
    def test_an_option_that_celery_gives_up(self):
        @component(scope="prototype")
        class Tasks:
            @task("old", queue="high")
            async def old(self) -> None: ...

        assert found(Tasks) == [("deprecated-option", WARNING, "Tasks.old")]

    @pytest.mark.parametrize("pool", ["gevent", "eventlet", "threads"])
    def test_a_call_that_blocks_the_loop(self, pool):
        @component(scope="prototype")
        class Tasks:
            @task("nap")
            async def nap(self) -> None:
                time.sleep(1)  # noqa: ASYNC251

        line = inspect.getsourcelines(Tasks.nap)[1] + 2
        assert found(Tasks, pool=pool) == [("blocking-call", WARNING, f"Tasks.nap, line {line}")]

    @pytest.mark.parametrize("pool", ["prefork", "solo"])
    def test_where_one_task_runs_at_a_time_it_holds_up_no_other(self, pool):
        @component(scope="prototype")
        class Tasks:
            @task("nap")
            async def nap(self) -> None:
                time.sleep(1)  # noqa: ASYNC251

        assert found(Tasks, pool=pool) == []


class TestBlockingCalls:
    """Only what is certain counts."""

    def names(self, function) -> list[str]:
        return [name for _, name in blocking_calls(function)]

    def test_calls_by_any_name_that_leads_there(self):
        async def work() -> None:
            import subprocess as processes
            from os import system

            time.sleep(1)  # noqa: ASYNC251
            if sleep(2):  # noqa: ASYNC251
                processes.run(["true"], check=False)  # noqa: ASYNC221
            system("true")  # noqa: ASYNC221
            [urlopen(url) for url in ()]  # noqa: ASYNC210
            input()  # noqa: ASYNC250

        assert self.names(work) == ["time.sleep", "sleep", "processes.run", "system", "urlopen", "input"]

    def test_what_is_passed_on_or_defined_or_means_something_else_is_no_call(self):
        class Clock:
            async def sleep(self, seconds: float) -> None: ...

        async def work(clock: Clock, urlopen: Any) -> None:
            def later() -> None:
                time.sleep(1)

            time_of_day = clock
            await time_of_day.sleep(1)
            await run_blocking(time.sleep, 1)
            await run_blocking(later)
            await run_blocking(lambda: sleep(1))
            time.sleep(0)  # noqa: ASYNC251
            urlopen()

        assert self.names(work) == []

    def test_a_name_of_the_function_itself_hides_that_of_the_module(self):
        async def work(time: Any) -> None:
            time.sleep(1)
            [sleep(1) for sleep in ()]

        assert self.names(work) == []

    def test_a_function_put_in_its_place_is_still_known(self, monkeypatch):
        monkeypatch.setattr(time, "sleep", patched_sleep)

        async def work() -> None:
            patched_sleep(1)

        assert self.names(work) == ["patched_sleep"]

    def test_a_function_without_source_has_none(self):
        namespace = {}
        exec("async def work(): input()", namespace)

        assert self.names(namespace["work"]) == []

    def test_a_function_that_is_not_async_has_none(self):
        def work() -> None:
            time.sleep(1)

        assert self.names(work) == []


class TestSettings:
    def test_a_setting_where_nothing_reads_it(self):
        config = configuration(DictSource({"broker_url": "amqp://nowhere", "celery": {"backend_url": None}}))
        modules = ["pico_celery", module_of(GoodTasks)]
        (finding,) = findings(init(modules=modules, config=config).get(Celery))
        assert (finding.code, finding.severity, finding.where) == ("unread-setting", WARNING, "broker_url")
        assert finding.hint == "Did you mean 'broker_url' below 'celery'?"

    def test_an_app_of_ones_own_may_have_its_settings_from_anywhere(self):
        config = configuration(DictSource({"broker_url": "amqp://nowhere"}))
        app = Celery("own", broker="amqp://nowhere", set_as_current=False)
        init(modules=["pico_celery", module_of(GoodTasks)], config=config, overrides={Celery: app})
        assert findings(app) == []

    @pytest.mark.parametrize("name", ["gevent", "eventlet", "celery.concurrency.gevent:TaskPool"])
    def test_a_green_pool_from_the_settings(self, name):
        assert found_in_settings(worker_pool=name) == [("pool", ERROR, "worker_pool")]

    def test_another_pool_from_the_settings_is_what_is_checked_for(self):
        assert expected_pool(app_of(worker_pool="threads").conf) == "threads"

    @pytest.mark.parametrize("settings", [{}, {"worker_pool": "my.own:Pool"}])
    def test_without_one_it_is_gevent(self, settings):
        assert expected_pool(app_of(**settings).conf) == "gevent"

    @pytest.mark.parametrize("name", ["worker_max_tasks_per_child", "worker_max_memory_per_child"])
    def test_limits_of_child_processes(self, name):
        assert found_in_settings(**{name: 100}) == [("no-effect", WARNING, name)]
        assert found_in_settings(pool="prefork", **{name: 100}) == []

    def test_a_broker_and_a_backend_in_memory(self):
        assert found_in_settings(broker_url="memory://", backend_url="cache+memory://") == [
            ("memory", WARNING, "broker_url"),
            ("memory", WARNING, "result_backend"),
        ]

    @pytest.mark.parametrize("name", ["accept_content", "result_accept_content"])
    @pytest.mark.parametrize("kind", ["pickle", "application/x-python-serialize"])
    def test_pickle(self, name, kind):
        assert found_in_settings(**{name: ["json", kind]}) == [("pickle", WARNING, name)]

    @pytest.mark.parametrize(("pool", "count"), [("gevent", 1), ("eventlet", 1), ("threads", 0), ("prefork", 0)])
    def test_a_result_backend_that_is_not_shared_among_greenlets(self, pool, count):
        settings = {"backend_url": "redis://nowhere", "result_backend_thread_safe": False}

        expected = [("connections", WARNING, "result_backend_thread_safe")]
        assert found_in_settings(pool, **settings) == expected[:count]

    def test_a_result_backend_that_knows_no_sharing_is_no_mistake(self):
        assert found_in_settings(backend_url="rpc://", result_backend_thread_safe=False) == []

    def test_a_worker_that_fetches_without_end(self):
        assert found_in_settings(worker_prefetch_multiplier=0) == [("prefetch", WARNING, "worker_prefetch_multiplier")]

    def test_eager_tasks(self):
        assert found_in_settings(task_always_eager=True) == [("eager", WARNING, "task_always_eager")]

    def test_a_soft_limit_behind_the_hard_one(self):
        @component(scope="prototype")
        class Tasks:
            @task("late", soft_time_limit=30, time_limit=20)
            async def late(self) -> None: ...

        assert found(Tasks) == [("time-limit", WARNING, "task late")]

    @pytest.mark.parametrize(
        ("pool", "count"), [("gevent", 1), ("eventlet", 2), ("threads", 2), ("solo", 2), ("prefork", 0)]
    )
    def test_limits_of_a_plain_task_that_the_pool_does_not_know(self, pool, count):
        app = app_of(GoodTasks)
        app.task(name="plain", shared=False, soft_time_limit=10, time_limit=20)(plain)

        assert [finding.where for finding in findings(app, pool)] == ["task plain"] * count
