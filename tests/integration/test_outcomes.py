"""On each pool: values, errors, and who a coroutine is."""

import pytest
from celery.result import ResultSet

from pico_celery_core.errors import HandlerArgumentsError, HandlerCancelledError
from tests.integration.shared import SharedWorker
from tests.waiting import eventually

pytestmark = pytest.mark.smoke


def test_values_and_keyword_arguments_arrive(worker: SharedWorker) -> None:
    result = worker.app.send_task("outcomes.echo", [1, "zwei"], {"three": [3.0, None]})
    assert result.get(timeout=30) == [[1, "zwei"], {"three": [3.0, None]}]
    assert result.state == "SUCCESS"


def test_a_hundred_results_each_find_their_own_way(worker: SharedWorker) -> None:
    results = [worker.send("outcomes.echo", number) for number in range(100)]
    assert [result.get(timeout=30)[0] for result in results] == [[number] for number in range(100)]


def test_an_error_reaches_the_caller_with_its_traceback(worker: SharedWorker) -> None:
    result = worker.send("outcomes.fail", "the reason")
    with pytest.raises(ValueError, match="the reason"):
        result.get(timeout=30)
    assert result.state == "FAILURE"
    assert "raise ValueError(message)" in result.traceback


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
    assert results.get(timeout=30) == [count] * count


def test_each_execution_has_a_component_of_its_own(worker: SharedWorker) -> None:
    results = ResultSet([worker.send("outcomes.count_calls") for _ in range(20)])
    assert results.get(timeout=30) == [1] * 20


def test_the_current_task_is_right_in_coroutines_gather_and_threads(worker: SharedWorker) -> None:
    results = [worker.send("outcomes.ids") for _ in range(20)]
    for result in results:
        assert set(result.get(timeout=30)) == {result.id}


def test_all_executions_of_a_process_share_one_loop(worker: SharedWorker) -> None:
    results = ResultSet([worker.send("outcomes.where") for _ in range(20)])
    places = {tuple(place) for place in results.get(timeout=30)}
    assert len(places) <= worker.pool.processes


def test_a_coroutine_that_blocks_on_a_socket_disturbs_no_other_task(worker: SharedWorker) -> None:
    results = ResultSet([worker.send("outcomes.call_blocking_library", 10) for _ in range(50)])
    assert results.get(timeout=30) == [None] * 50


def test_run_blocking_lets_blocking_clients_wait_at_once(worker: SharedWorker) -> None:
    count = worker.pool.concurrency if worker.pool.name != "threads" else 4
    key = "blocking-clients"
    results = ResultSet([worker.send("outcomes.meet_blocking", key) for _ in range(count)])
    eventually(lambda: int(worker.records.redis.get(f"arrivals:{key}") or 0) == count)
    worker.records.redis.rpush(key, *["go"] * count)
    assert results.get(timeout=30) == ["go"] * count


def test_a_task_that_waits_for_another_on_its_own_loop_is_told_so(worker: SharedWorker) -> None:
    with pytest.raises(RuntimeError, match="synchronously from a coroutine"):
        worker.get("outcomes.synchronously")


def test_a_task_awaits_another_without_a_message(worker: SharedWorker) -> None:
    assert worker.get("outcomes.await_run") == [[1], {}]
