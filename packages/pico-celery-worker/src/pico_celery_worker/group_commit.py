"""Group commit: what many greenlets ask of a server at the same time goes there together, in one round trip.

A greenlet hands over an item and waits for the answer to it. While one batch is on its way, further items wait, and all
of them are the next batch. So a batch is as large as the load makes it: where one item comes at a time, it is sent at
once and alone.

Where gevent has not patched the process, and in threads other than the main one, each item is a batch of its own.
"""

import functools
import math
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import gevent
from gevent import hub, monkey

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")

# How many items, and how many bytes, a batch has at most: Redis does nothing else while it executes a script.
MOST_ITEMS: Final = 100
MOST_BYTES: Final = 2**20

# After so many members in a row have failed by themselves, the fault is taken for the server's.
_FAILURES: Final = 2


@dataclass
class BatchCounts:
    """How many batches of one kind there were, how many items they had, and how many items the largest one had."""

    batches: int = 0
    items: int = 0
    largest: int = 0

    def add(self, items: int) -> None:
        """Count one batch.

        Args:
            items: How many items it had.
        """
        self.batches += 1
        self.items += items
        self.largest = max(self.largest, items)


counts: Final[defaultdict[str, BatchCounts]] = defaultdict(BatchCounts)
"""What this process has sent in batches, by kind: "take", "settle", "store" and so on."""


class _Member(Generic[_Item]):
    """One item, and the greenlet that waits for its answer."""

    __slots__ = ("answer", "error", "is_done", "item", "size", "waiter")

    def __init__(self, item: _Item, size: int) -> None:
        self.item = item
        self.size = size
        self.waiter: Any = hub.Waiter()
        self.is_done = False
        self.answer: Any = None
        self.error: BaseException | None = None

    def settle(self, outcome: Any) -> None:
        self.is_done = True
        if isinstance(outcome, BaseException):
            self.error = outcome
        else:
            self.answer = outcome
        # gevent lets only its hub switch to a waiting greenlet.
        hub.get_hub().loop.run_callback(self.waiter.switch, None)


class GroupCommit(Generic[_Item, _Answer]):
    """Sends in batches what greenlets hand over one by one.

    Args:
        kind: What the batches are counted as, in `counts`.
        commit: Sends some items, and returns an outcome for each: its answer, or an exception that concerns it alone.
            If it raises, the items are sent again, each by itself, so it has to be such that this does no harm.
        hopeless: What it raises where that is not worth it, for each attempt would take as long: timeouts.
    """

    def __init__(
        self,
        kind: str,
        commit: Callable[[Sequence[_Item]], Sequence[_Answer | BaseException]],
        hopeless: tuple[type[BaseException], ...] = (TimeoutError,),
    ) -> None:
        self._kind = kind
        self._commit = commit
        self._hopeless = hopeless
        self._waiting: deque[_Member[_Item]] = deque()
        self._is_committing = False

    def submit(self, item: _Item, *, size: int = 0, longest: float = math.inf) -> _Answer:
        """Hand over an item, and wait for its answer.

        A greenlet that is killed meanwhile takes its item back, unless it is on its way: then it is sent all the same.

        Args:
            item: What to send.
            size: How large it is, in bytes.
            longest: How long to wait until its batch begins, in seconds.

        Returns:
            The answer to this item.

        Raises:
            TimeoutError: If its batch has not begun in time.
            Exception: What has become of this item, as if it had been sent alone.
        """
        if not _is_green() or not hub.get_hub().main_hub:
            return self._submit_alone(item)
        member = _Member(item, size)
        self._waiting.append(member)
        if not self._is_committing:
            self._is_committing = True
            gevent.spawn_raw(self._commit_what_waits)
        try:
            self._wait(member, longest)
        except BaseException:
            self._take_back(member)
            raise
        if member.error is not None:
            # The others of the batch raise it, too: each begins its traceback anew.
            raise member.error.with_traceback(None)
        return member.answer  # type: ignore[no-any-return]

    def _submit_alone(self, item: _Item) -> _Answer:
        counts[self._kind].add(1)
        [outcome] = self._commit([item])
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def _wait(self, member: _Member[_Item], longest: float) -> None:
        if longest < math.inf:
            with gevent.Timeout(longest, False):  # pyright: ignore[reportArgumentType]
                member.waiter.get()
            if not member.is_done and self._take_back(member):
                raise TimeoutError("What was sent before has not been answered yet.")
        if not member.is_done:
            member.waiter.get()

    def _take_back(self, member: _Member[_Item]) -> bool:
        """Forget an item, and tell whether that was possible."""
        try:
            self._waiting.remove(member)
        except ValueError:
            return False
        return True

    def _commit_what_waits(self) -> None:
        try:
            while self._waiting:
                batch = self._next_batch()
                counts[self._kind].add(len(batch))
                self._commit_batch(batch)
        finally:
            self._is_committing = False

    def _next_batch(self) -> list[_Member[_Item]]:
        waiting = self._waiting
        batch = [waiting.popleft()]
        size = batch[0].size
        while waiting and len(batch) < MOST_ITEMS and size + waiting[0].size <= MOST_BYTES:
            member = waiting.popleft()
            size += member.size
            batch.append(member)
        return batch

    def _commit_batch(self, batch: list[_Member[_Item]]) -> None:
        outcomes, error = self._attempt(batch)
        if error is not None and len(batch) > 1 and not isinstance(error, self._hopeless):
            self._commit_one_by_one(batch, error)
            return
        for member, outcome in zip(batch, outcomes, strict=True):
            member.settle(outcome)

    def _commit_one_by_one(self, batch: list[_Member[_Item]], error: BaseException) -> None:
        """Commit the members of a batch that has failed as a whole: it may be the fault of one of them."""
        failures = 0
        for member in batch:
            if failures >= _FAILURES:
                member.settle(error)
                continue
            [outcome], alone = self._attempt([member])
            failures = failures + 1 if alone is not None else 0
            member.settle(outcome)

    def _attempt(self, batch: list[_Member[_Item]]) -> tuple[Sequence[Any], BaseException | None]:
        """Return the outcome of each member, and what has failed for all of them, if anything has."""
        try:
            outcomes = [*self._commit([member.item for member in batch])]
            if len(outcomes) != len(batch):
                raise ValueError("a batch needs as many outcomes as it has items")  # noqa: TRY301  # for those who wait
        except BaseException as error:  # noqa: BLE001  # those who wait are to hear of it, whatever it is
            return [error] * len(batch), error
        return outcomes, None


@functools.cache
def _is_green() -> bool:
    return bool(monkey.is_module_patched("threading"))
