"""On each pool: values, errors, and who a coroutine is."""

import traceback
from collections.abc import Iterator

import pydantic
import pytest
from celery import Celery
from celery.result import ResultSet

from pico_celery_core.errors import HandlerArgumentsError, HandlerCancelledError
from pico_celery_core.failures.backend import store_failures_in_full
from tests.integration.apps import failing
from tests.integration.apps.failing import FAILURES, OrderError
from tests.integration.shared import SharedWorker
from tests.integration.workers import sender
from tests.waiting import eventually

pytestmark = pytest.mark.smoke


def test_values_and_keyword_arguments_arrive(worker: SharedWorker) -> None:
    result = worker.app.send_task("outcomes.echo", [1, "zwei"], {"three": [3.0, None]})
    assert result.get(timeout=60) == [[1, "zwei"], {"three": [3.0, None]}]
    assert result.state == "SUCCESS"


def test_a_hundred_results_each_find_their_own_way(worker: SharedWorker) -> None:
    results = [worker.send("outcomes.echo", number) for number in range(100)]
    assert [result.get(timeout=60)[0] for result in results] == [[number] for number in range(100)]


def test_an_error_reaches_the_caller_with_its_traceback(worker: SharedWorker) -> None:
    result = worker.send("outcomes.fail", "the reason")
    with pytest.raises(ValueError, match="the reason"):
        result.get(timeout=60)
    assert result.state == "FAILURE"
    assert "raise ValueError(message)" in result.traceback


@pytest.fixture(scope="module")
def caller(worker: SharedWorker) -> Iterator[Celery]:
    """The app of a caller that reads failures in full, as a container's does."""
    with sender(worker.url, worker.url) as app:
        store_failures_in_full(app)
        yield app


def failure(worker: SharedWorker, app: Celery, kind: str) -> BaseException:
    with pytest.raises(Exception) as info:  # noqa: PT011
        app.AsyncResult(worker.send("outcomes.fail_with", kind).id).get(timeout=60)
    return info.value


@pytest.mark.parametrize("kind", ["validation", "caused", "file"])
def test_a_caller_gets_what_the_handler_raised(worker: SharedWorker, caller: Celery, kind: str) -> None:
    arrived, raised = failure(worker, caller, kind), FAILURES[kind]()
    assert (type(arrived), str(arrived), arrived.args) == (type(raised), str(raised), raised.args)
    assert getattr(arrived, "__notes__", []) == getattr(raised, "__notes__", [])
    if raised.__cause__:
        assert str(arrived.__cause__) == str(raised.__cause__)
    assert "in fail_with" in "".join(traceback.format_exception(arrived))


def test_a_caller_gets_a_group_with_its_members(worker: SharedWorker, caller: Celery) -> None:
    matched, rest = failure(worker, caller, "group").split((OrderError, KeyError))
    assert [type(error) for error in matched.exceptions[0].exceptions] == [OrderError, KeyError]
    assert [type(error) for error in rest.exceptions] == [pydantic.ValidationError]


def test_a_class_that_the_caller_does_not_have_keeps_its_name(
    worker: SharedWorker, caller: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised = FAILURES["own"]()
    monkeypatch.delattr(failing, "WorkersOwnError")
    arrived = failure(worker, caller, "own")
    assert (type(arrived).__name__, str(arrived), arrived.order) == ("WorkersOwnError", str(raised), 7)
    assert isinstance(arrived, OrderError)


@pytest.mark.parametrize("kind", FAILURES)
def test_plain_celery_gets_the_text(worker: SharedWorker, kind: str) -> None:
    raised = FAILURES[kind]()
    text = str(raised.args[-1] if raised.args else raised).splitlines()[0]
    assert text in str(failure(worker, worker.app, kind))


def test_arguments_that_do_not_fit_fail_the_task(worker: SharedWorker) -> None:
    with pytest.raises(HandlerArgumentsError, match=r"'outcomes\.fail' do not fit .*\.fail\(message: str\)"):
        worker.get("outcomes.fail")


def test_a_value_that_no_backend_can_store_fails_the_task(worker: SharedWorker) -> None:
    with pytest.raises(Exception, match=r"(?i)object.*serializ|serializ.*object"):
        worker.get("outcomes.unserializable")


def test_a_task_that_cancels_itself_fails(worker: SharedWorker) -> None:
    with pytest.raises(HandlerCancelledError):
        worker.get("outcomes.cancel_itself")


def test_executions_run_at_once_as_many_as_the_pool_has_places(worker: SharedWorker) -> None:
    count = worker.pool.concurrency
    results = ResultSet([worker.send("outcomes.meet", "place", count) for _ in range(count)])
    assert results.get(timeout=60) == [count] * count


def test_each_execution_has_a_component_of_its_own(worker: SharedWorker) -> None:
    results = ResultSet([worker.send("outcomes.count_calls") for _ in range(20)])
    assert results.get(timeout=60) == [1] * 20


def test_the_current_task_is_right_in_coroutines_gather_and_threads(worker: SharedWorker) -> None:
    results = [worker.send("outcomes.ids") for _ in range(20)]
    for result in results:
        assert set(result.get(timeout=60)) == {result.id}


def test_all_executions_of_a_process_share_one_loop(worker: SharedWorker) -> None:
    results = ResultSet([worker.send("outcomes.where") for _ in range(20)])
    places = {tuple(place) for place in results.get(timeout=60)}
    assert len(places) <= worker.pool.processes


def test_a_coroutine_that_blocks_on_a_socket_disturbs_no_other_task(worker: SharedWorker) -> None:
    results = ResultSet([worker.send("outcomes.call_blocking_library", 10) for _ in range(50)])
    assert results.get(timeout=60) == [None] * 50


def test_run_blocking_lets_blocking_clients_wait_at_once(worker: SharedWorker) -> None:
    count = worker.pool.concurrency if worker.pool.name != "threads" else 4
    key = "blocking-clients"
    results = ResultSet([worker.send("outcomes.meet_blocking", key) for _ in range(count)])
    eventually(lambda: int(worker.records.redis.get(f"arrivals:{key}") or 0) == count)
    worker.records.redis.rpush(key, *["go"] * count)
    assert results.get(timeout=60) == ["go"] * count


def test_a_task_that_waits_for_another_on_its_own_loop_is_told_so(worker: SharedWorker) -> None:
    with pytest.raises(RuntimeError, match="synchronously from a coroutine"):
        worker.get("outcomes.synchronously")


def test_a_task_awaits_another_without_a_message(worker: SharedWorker) -> None:
    assert worker.get("outcomes.await_run") == [[1], {}]
