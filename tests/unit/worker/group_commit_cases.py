"""What must hold of group commit under gevent. Each function is a test, run by `test_group_commit.py`."""

from collections.abc import Sequence
from typing import Any

import gevent
import pytest
from gevent.event import Event

from pico_celery_worker import group_commit as module
from pico_celery_worker.group_commit import MOST_BYTES, MOST_ITEMS, GroupCommit, counts

REFUSED = ValueError("refused")


class Server:
    """Answers batches with ten times each item, one batch at a time, when it is let."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.is_open = Event()
        self.is_open.set()
        self.outcomes: dict[Any, Any] = {}
        self.fails: Any = lambda _: None
        self.commits: GroupCommit[Any, Any] = GroupCommit("tests", self._commit)

    def _commit(self, items: Sequence[Any]) -> list[Any]:
        self.batches.append([*items])
        self.is_open.wait()
        error = self.fails(items)
        if error is not None:
            raise error
        return [self.outcomes.get(item, 10 * item) for item in items]

    def _outcome(self, item: Any, **options: Any) -> Any:
        try:
            return self.commits.submit(item, **options)
        except Exception as error:  # noqa: BLE001
            return error

    def send(self, *items: Any, **options: Any) -> list[gevent.Greenlet]:
        """Have each item sent by a greenlet, and wait until all that can be on its way is."""
        greenlets = [gevent.spawn(self._outcome, item, **options) for item in items]
        gevent.sleep(0)
        gevent.sleep(0)
        return greenlets


def _answers(greenlets: list[gevent.Greenlet]) -> list[Any]:
    """Return what each greenlet got, or its error."""
    gevent.joinall(greenlets)
    return [greenlet.value for greenlet in greenlets]


def _busy(server: Server) -> list[gevent.Greenlet]:
    """Have a server work at a batch until it is let, so that what comes next waits."""
    server.is_open.clear()
    first = server.send(0)
    assert server.batches == [[0]]
    return first


def one_item_is_sent_at_once_and_alone() -> None:
    server = Server()
    assert server.commits.submit(7) == 70
    assert server.commits.submit(8) == 80
    assert server.batches == [[7], [8]]


def what_comes_while_a_batch_is_on_its_way_is_the_next_one() -> None:
    server = Server()
    first = _busy(server)
    others = server.send(1, 2, 3)
    server.is_open.set()
    assert _answers([*first, *others]) == [0, 10, 20, 30]
    assert server.batches == [[0], [1, 2, 3]]


def what_comes_at_the_same_time_is_one_batch() -> None:
    server = Server()
    assert _answers(server.send(*range(5))) == [0, 10, 20, 30, 40]
    assert server.batches == [[0, 1, 2, 3, 4]]


def batches_are_counted() -> None:
    counts.clear()
    server = Server()
    _answers(server.send(1, 2, 3))
    _answers(server.send(4))
    assert (counts["tests"].batches, counts["tests"].items, counts["tests"].largest) == (2, 4, 3)


def an_error_of_one_is_no_other_ones() -> None:
    server = Server()
    server.outcomes[2] = REFUSED
    assert _answers(server.send(1, 2, 3)) == [10, REFUSED, 30]
    assert server.batches == [[1, 2, 3]]


def where_a_batch_fails_because_of_one_the_others_are_sent_without_it() -> None:
    server = Server()
    server.fails = lambda items: REFUSED if 2 in items else None
    assert _answers(server.send(1, 2, 3, 4)) == [10, REFUSED, 30, 40]
    assert server.batches == [[1, 2, 3, 4], [1], [2], [3], [4]]


def a_server_that_is_gone_is_not_asked_for_each() -> None:
    server = Server()
    server.fails = lambda _: ConnectionError("gone")
    found = _answers(server.send(*range(20)))
    assert {type(error) for error in found} == {ConnectionError}
    assert len(server.batches) == 3


def nor_is_one_that_does_not_answer() -> None:
    server = Server()
    server.fails = lambda _: TimeoutError("slow")
    assert {type(error) for error in _answers(server.send(*range(20)))} == {TimeoutError}
    assert len(server.batches) == 1


def after_a_failure_batches_go_on() -> None:
    server = Server()
    server.fails = lambda _: ConnectionError("gone")
    _answers(server.send(1, 2))
    server.fails = lambda _: None
    assert _answers(server.send(3, 4)) == [30, 40]


def too_few_outcomes_are_an_error_of_all() -> None:
    commits: GroupCommit[int, int] = GroupCommit("tests", lambda _: [])
    with pytest.raises(ValueError, match="outcomes"):
        commits.submit(1)


def one_that_is_killed_while_it_waits_sends_nothing() -> None:
    server = Server()
    first = _busy(server)
    killed, other = server.send(1, 2)
    killed.kill()
    server.is_open.set()
    assert _answers([*first, other]) == [0, 20]
    assert server.batches == [[0], [2]]


def one_that_is_killed_while_its_batch_is_on_its_way_ends_at_once_and_harms_no_other() -> None:
    server = Server()
    server.is_open.clear()
    killed, other = server.send(1, 2)
    killed.kill()
    assert killed.dead
    assert not other.dead
    server.is_open.set()
    assert _answers([other]) == [20]
    assert server.batches == [[1, 2]]


def one_that_is_killed_when_its_answer_has_come_harms_no_other() -> None:
    server = Server()
    first = _busy(server)
    others = server.send(1, 2)
    server.is_open.set()
    gevent.joinall(first)
    others[0].kill()
    assert _answers(others[1:]) == [20]


def a_time_limit_interrupts_as_it_does_elsewhere() -> None:
    server = Server()
    first = _busy(server)
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.01):
        server.commits.submit(1)
    server.is_open.set()
    assert _answers(first) == [0]
    assert server.batches == [[0]]


def an_item_waits_no_longer_than_it_may_until_its_batch_begins() -> None:
    server = Server()
    first = _busy(server)
    with pytest.raises(TimeoutError):
        server.commits.submit(1, longest=0.01)
    server.is_open.set()
    assert _answers(first) == [0]
    assert server.batches == [[0]]


def what_is_on_its_way_is_waited_for() -> None:
    server = Server()
    server.is_open.clear()
    [sending] = server.send(1, longest=0.01)
    sending.join(0.05)
    assert not sending.dead
    server.is_open.set()
    assert _answers([sending]) == [10]


def a_batch_has_only_so_many_items() -> None:
    server = Server()
    first = _busy(server)
    others = server.send(*range(1, MOST_ITEMS + 2))
    server.is_open.set()
    _answers([*first, *others])
    assert [len(batch) for batch in server.batches] == [1, MOST_ITEMS, 1]


def a_batch_has_only_so_many_bytes() -> None:
    server = Server()
    first = _busy(server)
    others = server.send(1, 2, 3, size=MOST_BYTES // 2)
    others += server.send(4, size=2 * MOST_BYTES)
    others += server.send(5, size=1)
    server.is_open.set()
    _answers([*first, *others])
    assert server.batches == [[0], [1, 2], [3], [4], [5]]


def what_comes_first_is_sent_first() -> None:
    server = Server()
    first = _busy(server)
    others = server.send(*range(1, 250))
    server.is_open.set()
    _answers([*first, *others])
    assert [item for batch in server.batches for item in batch] == [*range(250)]


def another_thread_sends_by_itself() -> None:
    server = Server()
    first = _busy(server)
    sent = Server()
    assert gevent.get_hub().threadpool.apply(sent.commits.submit, (1,)) == 10
    server.is_open.set()
    assert _answers(first) == [0]


def nothing_is_left_when_all_is_answered() -> None:
    server = Server()
    _answers(server.send(*range(300)))
    gevent.sleep(0)
    assert not server.commits._waiting
    assert not server.commits._is_committing
    assert module._is_green()
