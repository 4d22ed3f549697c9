"""A worker that is told to revoke tasks tells what has become of each."""

from types import SimpleNamespace
from typing import Any

import pytest
from billiard.exceptions import Terminated
from celery.exceptions import Retry
from celery.worker import control, state
from pico_ioc import component

from pico_celery import task
from pico_celery_core.revocation import COMMAND
from pico_celery_worker.consumer.revocation import pico_revoke, register_command
from pico_celery_worker.pools.job import TerminatedLateError
from pico_celery_worker.transports.workers import worker_name
from tests.unit.worker.requests import info_of, message_of, request_of


@component(scope="prototype")
class Tasks:
    @task("early")
    async def early(self) -> None: ...


class Pool:
    """Terminates a task, which ends as it is told."""

    is_green = True

    def __init__(self) -> None:
        self.requests: dict[int, tuple[Any, Any]] = {}

    def terminate_job(self, pid: int, signal: Any) -> None:
        request, ending = self.requests.pop(pid)
        if isinstance(ending, BaseException):
            request.on_failure(info_of(ending))
        elif ending:
            request.on_success((False, None, 0.1))

    terminate_and_wait = terminate_job


class Worker:
    def __init__(self, app: Any) -> None:
        self.app = app
        self.pool = Pool()
        self.consumer = SimpleNamespace(hub=None, pool=self.pool)

    def reserve(self) -> Any:
        request = request_of(self.app, message_of("early"))
        state.task_reserved(request)
        return request

    def begin(self, ending: Any) -> Any:
        request = self.reserve()
        pid = len(self.pool.requests) + 1
        self.pool.requests[pid] = request, ending
        request.on_accepted(pid, 0)
        return request

    def revoke(self, *task_ids: str) -> dict[str, str]:
        reply = pico_revoke(self, task_ids)
        assert reply["worker"] == worker_name()
        answers: dict[str, str] = reply["answers"]
        return answers


@pytest.fixture(params=[True, False], ids=["green", "other"])
def worker(app, container, request):
    container(Tasks)
    state.reset_state()
    made = Worker(app)
    made.pool.is_green = request.param
    yield made
    state.reset_state()


def test_of_a_task_that_it_does_not_have_it_says_nothing_and_does_not_begin_it_later(worker):
    assert worker.revoke("unknown") == {}
    assert "unknown" in state.revoked
    assert worker.app.backend.get_state("unknown") == "PENDING"


def test_a_task_that_waits_and_one_that_runs_are_revoked(worker):
    waiting, running = worker.reserve(), worker.begin(Terminated("killed"))
    assert worker.revoke(waiting.id, running.id) == {waiting.id: "revoked", running.id: "revoked"}
    assert {worker.app.backend.get_state(request.id) for request in (waiting, running)} == {"REVOKED"}


def test_a_task_that_ends_meanwhile_has_ended(worker):
    succeeds, fails = worker.begin(True), worker.begin(ValueError("failed"))
    returns = worker.begin(TerminatedLateError("killed"))
    ended = [request.id for request in (succeeds, fails, returns)]
    assert worker.revoke(*ended) == dict.fromkeys(ended, "ended")
    assert worker.revoke(succeeds.id, returns.id) == dict.fromkeys((succeeds.id, returns.id), "ended")


def test_a_task_that_is_to_be_tried_again_is_revoked(worker):
    request = worker.begin(Retry())
    assert worker.revoke(request.id) == {request.id: "revoked"}


def test_a_task_that_does_not_end_in_time_still_runs(worker):
    request = worker.begin(None)
    assert request.acknowledged
    assert worker.revoke(request.id) == {request.id: "running"}


def test_celery_knows_the_command():
    register_command()
    assert control.Panel.data[COMMAND] is pico_revoke
