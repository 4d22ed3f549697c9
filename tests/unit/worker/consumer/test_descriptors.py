"""A worker runs as many tasks as its process may open files for, and opens only so many connections."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import ImproperlyConfigured

from pico_celery_worker.consumer import descriptors as module
from pico_celery_worker.consumer.descriptors import check_room, fit, most_connections


class Resource:
    """The standard library's module, for a process with limits of its own."""

    RLIMIT_NOFILE = 7
    RLIM_INFINITY = -1

    def __init__(self, soft: int, hard: int) -> None:
        self.limits = soft, hard
        self.refuses = False

    def getrlimit(self, _: int) -> tuple[int, int]:
        return self.limits

    def setrlimit(self, _: int, limits: tuple[int, int]) -> None:
        if self.refuses:
            raise ValueError("not allowed to raise maximum limit")
        self.limits = limits


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Resource]:
    def limit(soft: int, hard: int | None = None) -> Resource:
        resource = Resource(soft, hard or soft)
        monkeypatch.setattr(module, "resource", resource)
        return resource

    return limit


@pytest.fixture
def app() -> Iterator[Celery]:
    made = Celery("tests", broker="memory://", set_as_current=False)
    yield made
    made.close()


def worker_of(app: Celery, concurrency: int, autoscale: Any = None) -> Any:
    most, least = autoscale or (None, concurrency)
    return SimpleNamespace(app=app, concurrency=concurrency, max_concurrency=most, min_concurrency=least)


@pytest.mark.parametrize(("limit", "connections"), [(10, 1), (40, 1), (100, 4), (1024, 16), (-1, 16)])
def test_a_worker_opens_only_so_many_connections(limited: Any, limit: int, connections: int) -> None:
    limited(limit)
    assert most_connections() == connections


def test_a_system_without_a_limit_has_none(monkeypatch: pytest.MonkeyPatch, app: Celery) -> None:
    monkeypatch.setattr(module, "resource", None)
    assert most_connections() == 16
    worker = worker_of(app, 10_000)
    fit(worker, has_processes=False)
    assert worker.concurrency == 10_000


def test_a_worker_that_may_open_enough_stays_as_it_is(limited: Any, app: Celery, caplog: Any) -> None:
    resource = limited(1024, 4096)
    worker = worker_of(app, 100)
    fit(worker, has_processes=False)
    assert (worker.concurrency, worker.min_concurrency, worker.max_concurrency) == (100, 100, None)
    assert resource.limits == (1024, 4096)
    assert app.conf.broker_pool_limit == 10
    assert caplog.text == ""


def test_a_limit_is_raised_as_far_as_it_has_to_be(limited: Any, app: Celery, caplog: Any) -> None:
    caplog.set_level("INFO")
    resource = limited(1024, 4096)
    worker = worker_of(app, 1000)
    fit(worker, has_processes=False)
    assert worker.concurrency == 1000
    assert resource.limits == (1092, 4096)
    assert "The limit of open files was 1024, and is 1092 now" in caplog.text


@pytest.mark.parametrize("limits", [(40, 40, False), (30, 40, False), (40, 4096, True)])
def test_a_worker_that_may_not_runs_fewer_and_says_so(limited: Any, app: Celery, caplog: Any, limits: Any) -> None:
    soft, hard, refuses = limits
    limited(soft, hard).refuses = refuses
    worker = worker_of(app, 1000)
    fit(worker, has_processes=False)
    assert (worker.concurrency, worker.min_concurrency) == (8, 8)
    assert app.conf.broker_pool_limit == 1
    [record] = caplog.records
    assert record.getMessage() == (
        "This process may open 40 files, which is too few for 1000 tasks at a time: it runs 8. Raise the limit "
        "(ulimit -n 1092) or lower the concurrency (-c)"
    )


def test_a_pool_that_grows_does_so_as_far(limited: Any, app: Celery) -> None:
    limited(40)
    worker = worker_of(app, 2, autoscale=(1000, 20))
    fit(worker, has_processes=False)
    assert (worker.concurrency, worker.min_concurrency, worker.max_concurrency) == (2, 8, 8)


def test_a_process_takes_more(limited: Any, app: Celery) -> None:
    limited(60)
    worker = worker_of(app, 1000)
    fit(worker, has_processes=True)
    assert worker.concurrency == 4


def test_a_worker_with_no_room_for_a_task_does_not_start(limited: Any, app: Celery, caplog: Any) -> None:
    limited(30)
    with pytest.raises(ImproperlyConfigured, match="may open 30 files; a worker needs 33 at least"):
        fit(worker_of(app, 1), has_processes=False)
    assert "The worker cannot start: This process may open 30 files" in caplog.text


def test_room_for_some_files_leaves_none_open(monkeypatch: pytest.MonkeyPatch) -> None:
    opened, closed = iter(range(100, 200)), []
    monkeypatch.setattr(module.os, "close", closed.append)
    monkeypatch.setattr(module.os, "dup", lambda _: next(opened))
    check_room()
    assert closed == [*range(100, 108)]

    def refuse(_: int) -> int:
        number = next(opened)
        if number > 110:
            raise OSError(24, "Too many open files")
        return number

    monkeypatch.setattr(module.os, "dup", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        check_room()
    assert closed == [*range(100, 111)]
