"""Batches of what many greenlets ask for, in a process that gevent has patched: see `group_commit_cases.py`."""

import threading

import pytest

from pico_celery_worker.group_commit import GroupCommit
from tests.unit.worker import cases, group_commit_cases


@pytest.fixture(scope="module")
def failures() -> dict[str, str]:
    return cases.failures(group_commit_cases)


@pytest.mark.parametrize("case", cases.names(group_commit_cases))
def test_under_gevent(failures, case):
    assert case not in failures, failures[case]


def test_without_gevent_each_item_is_sent_by_its_own_thread():
    threads = []

    def commit(items: list[int]) -> list[int]:
        threads.append(threading.current_thread())
        return [10 * item for item in items]

    assert GroupCommit("tests", commit).submit(1) == 10
    assert threads == [threading.current_thread()]


def test_without_gevent_an_error_is_raised_as_it_is():
    error = ValueError("refused")
    with pytest.raises(ValueError, match="refused"):
        GroupCommit("tests", lambda _: [error]).submit(1)
