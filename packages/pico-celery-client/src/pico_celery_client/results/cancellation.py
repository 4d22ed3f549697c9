"""Cancelling tasks: revoke them, ask the workers what has become of them, and tell when it is certain.

What is cancelled at the same time goes to the workers together.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from celery import Celery, states
from celery.backends.base import DisabledBackend
from celery.backends.rpc import RPCBackend
from celery.result import AsyncResult

from pico_celery_client.per_app import PerApp
from pico_celery_client.publishing.thread_pool import DaemonThreads
from pico_celery_core.errors import CancelTimeoutError
from pico_celery_core.revocation import COMMAND, LIFETIME, REVOKED_SUFFIX, WORKERS_SUFFIX, Answer

# How many tasks go to the workers in one command.
_MOST: Final = 1000

# Which part of the time is left, after the workers were asked, to ask the result backend.
_FOR_STATES: Final = 0.2

# How often to look whether a task that is being cancelled has ended, in seconds.
_PAUSE: Final = 0.05


class _EnoughError(Exception):
    """All that was asked for is known."""


@dataclass(eq=False)
class _Order:
    """One task that is to be cancelled."""

    result: AsyncResult
    timeout: float
    decision: asyncio.Future[bool]
    replies: "_Replies | None" = None
    is_running: bool = False

    def __post_init__(self) -> None:
        self.deadline = time.monotonic() + self.timeout

    @property
    def task_id(self) -> str:
        return str(self.result.id)

    @property
    def problem(self) -> str:
        """Why it is not certain yet whether it is cancelled."""
        if self.is_running:
            return "it is being cancelled, and has not ended yet"
        return self.replies.problem if self.replies else "the workers were not asked yet"

    def decide(self, outcome: bool | Exception) -> None:
        """Tell who waits whether it is cancelled, or what has gone wrong. Called in any thread."""
        loop = self.decision.get_loop()
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._settle, outcome)

    def _settle(self, outcome: bool | Exception) -> None:
        if self.decision.done():
            return
        if isinstance(outcome, Exception):
            self.decision.set_exception(outcome)
        else:
            self.decision.set_result(outcome)


@dataclass
class _Replies:
    """What the workers have said.

    Args:
        wanted: The ids of the tasks that they were asked for.
        workers: Who has to answer, where that is known.
    """

    wanted: Sequence[str]
    workers: set[str] | None
    deadline: float
    answers: dict[str, Answer] = field(default_factory=dict[str, Answer])
    heard: set[str] = field(default_factory=set[str])

    def hear(self, body: Mapping[str, Any]) -> None:
        """Take a reply, and end the wait for more where that is enough."""
        for reply in body.values():
            if isinstance(reply, Mapping) and "worker" in reply:
                self.heard.add(reply["worker"])
                self.answers.update({task_id: Answer(said) for task_id, said in reply["answers"].items()})
        if self.are_all_in or len(self.answers) == len(self.wanted) or time.monotonic() > self.deadline:
            raise _EnoughError

    @property
    def are_all_in(self) -> bool:
        """Whether all workers have answered that there are."""
        return self.workers is not None and self.workers <= self.heard

    @property
    def problem(self) -> str:
        """Why what they have said is not enough."""
        if self.workers is None:
            return "no worker has answered that it has it, and this broker does not tell which workers there are"
        return f"only {len(self.workers & self.heard)} of {len(self.workers)} workers have answered"


class Cancellations:
    """Cancels the tasks of one app."""

    def __init__(self) -> None:
        self._threads = DaemonThreads("pico-celery-cancel", 4)
        self._orders: list[_Order] = []
        self._lock = threading.Lock()

    async def cancel(self, result: AsyncResult, timeout: float) -> bool:
        """Cancel a task.

        Args:
            result: Its result.
            timeout: How long to wait until that is certain, in seconds.

        Returns:
            Whether it is cancelled, and had not ended before.

        Raises:
            CancelTimeoutError: If that has not become certain in time.
        """
        loop = asyncio.get_running_loop()
        order = _Order(result, timeout, loop.create_future())
        with self._lock:
            self._orders.append(order)
        self._threads.submit(self._work)
        try:
            async with asyncio.timeout(timeout):
                return await order.decision
        except TimeoutError:
            raise CancelTimeoutError(order.task_id, timeout, order.problem) from None

    def _work(self) -> None:
        with self._lock:
            orders, self._orders = self._orders[:_MOST], self._orders[_MOST:]
        if not orders:
            return
        try:
            self._carry_out(orders)
        except Exception as error:  # noqa: BLE001  # theirs who wait
            for order in orders:
                order.decide(error)

    def _carry_out(self, orders: list[_Order]) -> None:
        app: Any = orders[0].result.app
        with app.connection_for_write() as connection:
            is_redis = connection.transport.driver_type == "redis"
            if not is_redis:
                # It takes the whole time to learn that no worker has it.
                orders = [order for order in orders if not self._has_ended(order)]
            if orders:
                self._ask(app, connection, orders, is_redis=is_redis)
        running: list[_Order] = []
        for order in orders:
            replies: Any = order.replies
            answer = replies.answers.get(order.task_id)
            if answer is Answer.RUNNING:
                order.is_running = True
                running.append(order)
            elif answer is not None:
                order.decide(answer is Answer.REVOKED)
            else:
                self._decide_by_state(order, replies)
        while running := [order for order in running if not self._has_ended(order)]:
            if time.monotonic() > max(order.deadline for order in running):
                return
            time.sleep(_PAUSE)

    def _ask(self, app: Any, connection: Any, orders: list[_Order], *, is_redis: bool) -> None:
        task_ids = list({order.task_id for order in orders})
        workers = _remember(connection.default_channel, task_ids) if is_redis else None
        deadline = max(order.deadline - order.timeout * _FOR_STATES for order in orders)
        replies = _Replies(task_ids, workers, deadline)
        for order in orders:
            order.replies = replies
        timeout = deadline - time.monotonic()
        if not replies.are_all_in and timeout > 0:
            with contextlib.suppress(_EnoughError):
                app.control.broadcast(
                    COMMAND,
                    arguments={"task_ids": task_ids},
                    connection=connection,
                    reply=True,
                    timeout=timeout,
                    callback=replies.hear,
                )

    def _decide_by_state(self, order: _Order, replies: _Replies) -> None:
        """Decide about a task that no worker has said to have."""
        state = _state_of(order.result)
        if state in states.READY_STATES:
            order.decide(state == states.REVOKED)
        elif replies.are_all_in:
            # In the queue, or nowhere: no worker runs it that takes it from now on.
            if _keeps_states(order.result):
                order.result.backend.mark_as_revoked(order.task_id, "cancelled")
            order.decide(outcome=True)

    def _has_ended(self, order: _Order) -> bool:
        state = _state_of(order.result)
        if state in states.READY_STATES:
            order.decide(state == states.REVOKED)
            return True
        return False


def _new(_: Celery) -> Cancellations:
    return Cancellations()


cancellations_of: Final = PerApp(_new).of


def _remember(channel: Any, task_ids: Sequence[str]) -> set[str]:
    """Let Redis remember that tasks were revoked, and return which workers there are.

    Whoever takes a message from then on knows of it. So what is running, or about to, is with one of these workers.
    """
    revoked, workers = channel.unacked_key + REVOKED_SUFFIX, channel.unacked_key + WORKERS_SUFFIX
    with channel.conn_or_acquire() as client:
        now, _ = client.time()
        with client.pipeline() as pipe:
            pipe.zadd(revoked, dict.fromkeys(task_ids, now + LIFETIME))
            # Only of some commands does kombu complete the keys with the prefix.
            pipe.zremrangebyscore(channel.global_keyprefix + revoked, "-inf", now)
            pipe.zrangebyscore(channel.global_keyprefix + workers, now, "+inf")
            *_, alive = pipe.execute()
    return {name.decode() if isinstance(name, bytes) else name for name in alive}


def _keeps_states(result: AsyncResult) -> bool:
    return not (result.ignored or isinstance(result.backend, (DisabledBackend, RPCBackend)))


def _state_of(result: AsyncResult) -> str:
    return str(result.backend.get_state(result.id)) if _keeps_states(result) else states.PENDING
