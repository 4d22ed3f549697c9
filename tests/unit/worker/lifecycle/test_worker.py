"""What happens to a container when its worker starts and stops, pool by pool."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, bootsteps, signals
from celery.concurrency import get_implementation
from celery.exceptions import ImproperlyConfigured
from celery.worker.consumer import Consumer
from pico_ioc import PicoContainer, cleanup, component, configure

from pico_celery import task
from pico_celery.errors import ContainerClosedError, SettingsError
from pico_celery_worker import loop
from pico_celery_worker.consumer import defaults as connections
from pico_celery_worker.consumer.consumer import GreenConsumer, ReliableConsumer
from pico_celery_worker.lifecycle import startup
from pico_celery_worker.lifecycle import worker as lifecycle
from pico_celery_worker.lifecycle.worker import POOLS, WorkerStep, attach
from pico_celery_worker.loop import close_runner, current_runner
from pico_celery_worker.observability.http import HttpServer
from pico_celery_worker.pools.gevent import TaskPool
from pico_celery_worker.tasks.runtime import Runtime
from tests.servers import silent_server
from tests.unit.worker.applications import application

log: list[str] = []


@component(lazy=True)
class Store:
    def __init__(self) -> None:
        log.append("made")

    @configure
    async def open(self) -> None:
        log.append("opened")

    @cleanup
    async def close(self) -> None:
        log.append("closed")


@component(scope="prototype")
class Tasks:
    def __init__(self, store: Store) -> None:
        self.store = store

    @task("lifecycle.run")
    async def run(self) -> None: ...


class Worker:
    """A worker of Celery's, as far as the step and the signal `worker_init` see it."""

    def __init__(self, container: PicoContainer, pool: str = "threads", **attributes: Any) -> None:
        self.app: Celery = container.get(Celery)
        self.pool_cls: Any = get_implementation(pool)
        self.consumer_cls: Any = "celery.worker.consumer:Consumer"
        self.steps: list[Any] = [object()]
        self.autoscale: Any = None
        self.concurrency = self.min_concurrency = 2
        self.max_concurrency = None
        self.pool: Any = None
        vars(self).update(attributes)

    def step(self) -> Any:
        [kind] = [kind for kind in self.app.steps["worker"] if issubclass(kind, WorkerStep)]
        return kind(self)


@pytest.fixture
def make() -> Iterator[Callable[..., Worker]]:
    apps = []

    def make(pool: str = "threads", settings: Any = None, **attributes: Any) -> Worker:
        log.clear()
        worker = Worker(application(Store, Tasks, settings=settings), pool, **attributes)
        apps.append(worker.app)
        return worker

    yield make
    for signal in (signals.worker_process_init, signals.worker_process_shutdown):
        assert not [receiver for receiver in signal.receivers or () if "WorkerStep" in repr(receiver)]
    for app in apps:
        app.close()
    close_runner()


@pytest.fixture(autouse=True)
def _patched(monkeypatch):
    """Leave what a worker sets for its whole process as it was."""
    monkeypatch.setattr(connections.functional, "sleep", connections.functional.sleep)


def test_the_step_comes_first_so_that_it_is_stopped_last(make):
    worker = make()
    step = worker.step()
    assert step.include(worker)
    assert worker.steps[0] is step
    assert len(worker.steps) == 2


def test_what_tasks_need_is_made_before_the_first_and_closed_after_the_last(make):
    worker = make()
    step = worker.step()
    assert log == []
    step.start(worker)
    assert log == ["made", "opened"]
    assert current_runner().lag is not None
    step.stop(worker)
    assert log == ["made", "opened", "closed"]
    assert loop._runner is None


def test_a_worker_that_is_terminated_closes_its_container_too(make):
    worker = make()
    step = worker.step()
    step.start(worker)
    step.terminate(worker)
    assert log == ["made", "opened", "closed"]


def test_a_container_that_was_closed_is_refused_when_the_worker_is_made(make, caplog):
    worker = make()
    step = worker.step()
    step.start(worker)
    step.stop(worker)
    with pytest.raises(ContainerClosedError, match=r"calling init\(\) in the test or in its fixture"):
        worker.step()
    assert "The worker cannot start: The container of this worker was closed" in caplog.text
    assert log == ["made", "opened", "closed"]


def test_what_is_asked_of_a_worker_is_answered_until_it_has_stopped(make, caplog, monkeypatch):
    start = HttpServer.start

    def start_where_it_is_free(server: HttpServer, host: str, _: int) -> Any:
        return start(server, host, 0)

    monkeypatch.setattr(HttpServer, "start", start_where_it_is_free)
    worker = make(settings={"pico_http_port": 8080}, blueprint=SimpleNamespace(state=bootsteps.RUN))
    step = worker.step()
    with caplog.at_level(logging.INFO, "pico_celery_worker"):
        step.start(worker)
    assert step._server.health.has_singletons
    assert "Serving /health/live, /health/ready, /metrics on 127.0.0.1" in caplog.text
    step.stop(worker)
    assert log == ["made", "opened", "closed"]


def test_a_port_that_is_taken_stops_the_worker(make, caplog):
    with silent_server() as port:
        worker = make(settings={"pico_http_port": port})
        step = worker.step()
        with pytest.raises(SettingsError, match="pico_http_port"):
            step.start(worker)
    assert "The worker cannot start: The setting 'pico_http_port'" in caplog.text
    assert "opened" not in log
    assert loop._runner is None


def test_nothing_is_served_with_the_prefork_pool(make, caplog):
    worker = make("prefork", settings={"pico_http_port": 8080})
    step = worker.step()
    assert step._server is None
    assert "Nothing is served on pico_http_port 8080" in caplog.text


def test_without_a_limit_the_loop_is_not_watched(make):
    worker = make(settings={"pico_loop_lag_warning": 0})
    step = worker.step()
    step.start(worker)
    assert current_runner().lag is None
    assert step.info(worker)["pico_celery"]["loop_lag"] is None
    step.stop(worker)


def test_it_is_told_how_the_loop_does(make):
    worker = make()
    step = worker.step()
    step.start(worker)
    told = step.info(worker)["pico_celery"]
    assert told["asyncio_tasks"] == 0
    assert {*told["loop_lag"]} == {"last", "worst"}
    step.stop(worker)


def test_a_worker_whose_tasks_cannot_be_made_does_not_start(make, monkeypatch, caplog):
    worker = make()
    step = worker.step()
    fail_to_prepare(step)
    with pytest.raises(OSError, match="no disk"):
        step.start(worker)
    assert "The worker cannot start: no disk" in caplog.text
    assert loop._runner is None


def fail_to_prepare(step: Any) -> None:
    async def prepare() -> None:
        raise OSError("no disk")

    handler = replace(next(iter(step._runtime.executors)).handler, key=Tasks)
    executor = SimpleNamespace(plan=SimpleNamespace(prepare=prepare), handler=handler)
    step._runtime = replace(step._runtime, executors=[executor])


def test_a_container_that_cannot_be_closed_is_logged(make, monkeypatch, caplog):
    def fail(*_: Any) -> None:
        raise OSError("no disk")

    worker = make()
    step = worker.step()
    step.start(worker)
    monkeypatch.setattr(lifecycle, "close", fail)
    step.stop(worker)
    assert "Closing the container failed" in caplog.text
    assert loop._runner is None


def test_in_a_prefork_worker_each_child_makes_its_own(make):
    worker = make("prefork")
    step = worker.step()
    step.start(worker)
    assert log == []
    assert step.info(worker) == {}
    assert loop._runner is None
    signals.worker_process_init.send(sender=None)
    assert log == ["made", "opened"]
    signals.worker_process_shutdown.send(sender=None)
    assert log == ["made", "opened", "closed"]
    step.stop(worker)


def test_a_prefork_child_that_cannot_make_what_tasks_need_lives(make, monkeypatch, caplog):
    worker = make("prefork")
    step = worker.step()
    step.start(worker)
    fail_to_prepare(step)
    step._open()
    assert "Could not create the singletons that tasks depend on; retrying with each task: no disk" in caplog.text
    step.stop(worker)


@pytest.mark.parametrize(("pool", "warns"), [("prefork", True), ("solo", True), ("threads", False)])
def test_pools_that_run_one_task_at_a_time_are_warned_of(make, pool, warns, caplog):
    caplog.set_level(logging.WARNING, startup.logger.name)
    worker = make(pool)
    step = worker.step()
    step.start(worker)
    step.stop(worker)
    assert ("pool runs one task at a time in a process; -P gevent runs many" in caplog.text) is warns


@pytest.mark.parametrize(
    ("pool", "soft", "hard"),
    [("gevent", True, False), ("solo", True, True), ("threads", True, True), ("prefork", False, False)],
)
def test_tasks_keep_the_time_limits_that_the_pool_does_not(make, pool, soft, hard):
    worker = make(pool)
    step = worker.step()
    step.start(worker)
    (executor,) = step._runtime.executors
    assert (executor.enforces_soft_limits, executor.enforces_hard_limits) == (soft, hard)
    step.stop(worker)


@pytest.mark.parametrize(("pool", "shares"), [("threads", True), ("gevent", True), ("solo", False)])
def test_pools_of_many_tasks_share_a_result_backend(make, pool, shares):
    worker = make(pool, settings={"backend_url": "redis://localhost"})
    worker.step()
    assert worker.app.conf.value_set_for("result_backend_thread_safe") is shares


def test_a_newer_container_takes_the_place_of_an_older(make):
    worker = make()
    older = worker.step()
    attach(worker.app, Runtime(older._runtime.container, []))
    assert worker.step()._runtime.executors == []


def initialised(worker: Any) -> Any:
    signals.worker_init.send(sender=worker)
    for kind in worker.app.steps["worker"]:
        kind(worker)
    return worker


def test_gevent_has_our_pool_which_waits_as_long_as_tasks_may_take_to_end(make):
    worker = initialised(make("gevent", settings={"pico_cancel_timeout": 3, "pico_cleanup_timeout": 4}))
    assert worker.pool_cls is TaskPool
    assert TaskPool(1, app=worker.app).terminate_timeout == 7
    assert worker.consumer_cls is GreenConsumer


def test_a_gevent_pool_of_the_users_own_is_kept(make):
    class Own(get_implementation("gevent")):
        """Stands in another module than Celery's."""

    worker = initialised(make("gevent", pool_cls=Own))
    assert worker.pool_cls is Own
    assert worker.consumer_cls is GreenConsumer


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_pools_without_greenlets_can_end_tasks(make, pool):
    worker = initialised(make(pool))
    assert issubclass(worker.pool_cls, get_implementation(pool))
    assert worker.pool_cls.__module__ == f"pico_celery_worker.pools.{pool}"
    assert worker.consumer_cls is ReliableConsumer


def test_prefork_is_celerys_own(make):
    worker = initialised(make("prefork"))
    assert worker.pool_cls is get_implementation("prefork")
    assert worker.consumer_cls is ReliableConsumer


@pytest.mark.parametrize("pool", ["gevent", "prefork"])
def test_nobody_waits_for_redis_for_ever(make, pool):
    worker = initialised(make(pool, settings={"broker_url": "redis://localhost"}))
    assert "socket_timeout" in worker.app.conf.broker_transport_options


class OwnConsumer(Consumer):
    """A user's."""


@pytest.mark.parametrize(("pool", "ours"), [("threads", ReliableConsumer), ("gevent", GreenConsumer)])
@pytest.mark.parametrize("given", [OwnConsumer, f"{__name__}:OwnConsumer"])
def test_a_consumer_of_the_users_own_does_what_ours_does(make, pool, ours, given):
    worker = initialised(make(pool, consumer_cls=given))
    assert issubclass(worker.consumer_cls, (ours, OwnConsumer))


def test_a_worker_without_tasks_of_ours_is_left_alone(make):
    make()
    app = Celery("other", broker="memory://", set_as_current=False)
    pool = get_implementation("gevent")
    worker = Worker.__new__(Worker)
    vars(worker).update(app=app, pool_cls=pool, consumer_cls="celery.worker.consumer:Consumer")
    initialised(worker)
    assert (worker.pool_cls, worker.consumer_cls) == (pool, "celery.worker.consumer:Consumer")
    app.close()


def test_celerys_step_is_what_ours_is():
    assert issubclass(WorkerStep, bootsteps.StartStopStep)


@pytest.mark.parametrize(("pool", "starts"), [("gevent", True), ("threads", True), ("prefork", True), ("solo", False)])
def test_a_pool_of_a_fixed_size_is_not_to_be_scaled(make, caplog, pool, starts):
    pool_cls = get_implementation(POOLS.get(get_implementation(pool).__module__, pool))
    worker = make(pool, autoscale=(2, 1))
    worker.pool = SimpleNamespace() if pool == "prefork" else pool_cls(1)
    if starts:
        lifecycle.check_autoscale(worker)
        return
    with pytest.raises(
        ImproperlyConfigured, match="--autoscale cannot be used with the solo pool, whose size is fixed"
    ):
        worker.step().start(worker)
    assert "The worker cannot start: --autoscale" in caplog.text
    assert log == []
