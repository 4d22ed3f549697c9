"""Messages of tasks that run, when the connection they came by is lost.

Celery 5.7 gives them up: the broker, or kombu in Redis, delivers them again, so that a task runs a second time beside
the first, and what the first has to say at its end is lost. Here a task keeps its message. Redis knows a message by a
name of its own, so it is not given back and is acknowledged by the next connection. RabbitMQ delivers it again: a task
that still runs takes the new delivery for its own, and one that has ended has it acknowledged.

All this is for the pools of greenlets, whose acknowledgements are sent at once.
"""

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from celery.worker import state
from celery.worker.strategy import default
from kombu.transport import virtual

logger = logging.getLogger(__name__)

Identity: TypeAlias = tuple[Any, ...]

# For how long RabbitMQ may take to deliver again what could not be acknowledged, in seconds.
_LONGEST_MEMORY: Final = 600.0

# What kombu's virtual transports do to acknowledge a message, without what Redis adds: the process forgets it, and
# Redis does not.
_forget: Final[Callable[[Any, str], None]] = virtual.QoS.ack


@dataclass(frozen=True, slots=True)
class Answer:
    """What the broker could not be told about a message.

    Args:
        message: The message.
        requeue: None to acknowledge it, else whether to reject it back into its queue.
    """

    message: Any
    requeue: bool | None = None
    since: float = field(default_factory=time.monotonic)

    def give(self) -> None:
        """Tell the broker, by the channel that the message has now."""
        message: Any = self.message
        if self.requeue is None:
            message.ack()
        else:
            message.reject(requeue=self.requeue)


class Deliveries:
    """What is known about messages whose connection is lost. One a process, as `celery.worker.state`."""

    def __init__(self) -> None:
        self.are_kept = False
        self.answers: dict[Identity, Answer] = {}
        self._held: list[Any] = []
        self._waiting: list[str] = []
        self._gate: AbstractContextManager[Any] = nullcontext()

    def keep(self, gate: AbstractContextManager[Any]) -> None:
        """Begin to keep messages, in a worker whose answers are sent at once.

        Args:
            gate: Lets only so many greenlets through as there are connections to send their answers by.
        """
        self.are_kept, self._gate = True, gate

    def answer(self, request: Any, requeue: bool | None, give: Callable[[], Any]) -> None:
        """Tell the broker about a request's message, or note what it could not be told.

        Args:
            request: The request.
            requeue: None to acknowledge it, else whether to reject it back into its queue.
            give: Tells the broker.
        """
        if request.acknowledged or not self.are_kept:
            give()
            return
        message = request.message
        if not is_cut_off(message):
            with self._gate:
                try:
                    give()
                except Exception as error:  # noqa: BLE001  # Redis may refuse it for now
                    logger.warning("The broker refuses what is said about task %s[%s]: %r", *_name(message), error)
        if not message.acknowledged:
            self._forget_old()
            self.answers[identity(message)] = Answer(message, requeue)
            request.acknowledged = True

    def hold(self, channel: Any = None) -> None:
        """Before a connection is given up: keep Redis from giving out again what runs or has just ended.

        Args:
            channel: By which messages came. It may have some that have not begun, such as those that wait for their
                time. Celery forgets them, and kombu may not be able to give them back.
        """
        running = [request.message for request in state.active_requests if not request.acknowledged]
        ended = [answer.message for answer in self.answers.values()]
        for message in (*running, *ended):
            if is_of_redis(message) and not message.acknowledged and not is_cut_off(message):
                _forget(message.channel.qos, message.delivery_tag)
                self._held.append(message)
        qos = getattr(channel, "qos", None)
        if is_redis(channel) and qos is not None:
            waiting = [tag for tag in qos._delivered if tag not in qos._dirty]  # noqa: SLF001
            for tag in waiting:
                _forget(qos, tag)
            self._waiting += waiting

    def resume(self, channel: Any) -> None:
        """With a new connection: go on with what was held, and catch up on what could not be told."""
        answered = {id(answer.message) for answer in self.answers.values()}
        running = {id(request.message) for request in state.active_requests}
        while self._held:
            message = self._held[-1]
            message.channel = channel
            if id(message) not in answered and not message.acknowledged:
                if id(message) in running:
                    channel.qos.append(message, message.delivery_tag)
                else:
                    self._waiting.append(message.delivery_tag)  # a plain task's, which notes no answer
            self._held.pop()
        while self._waiting:
            channel.qos.restore_by_tag(self._waiting[-1])
            self._waiting.pop()
        self.catch_up()

    def catch_up(self) -> None:
        """Tell Redis what it could not be told before."""
        for key, answer in list(self.answers.items()):
            if is_of_redis(answer.message) and not is_cut_off(answer.message):
                answer.give()
                self.answers.pop(key, None)

    def take_over(self, message: Any, ack: Callable[..., Any], reject: Callable[..., Any], errors: Any) -> bool:
        """Take a message that was delivered again for one that is known, and tell whether it is.

        Args:
            message: The message.
            ack: Acknowledges it.
            reject: Rejects it.
            errors: What either may raise when the connection is lost again.
        """
        key = identity(message)
        running = next((r for r in tuple(state.active_requests) if identity(r.message) == key), None)
        answer = self.answers.pop(key, None)
        if running is not None and not running.acknowledged and answer is None:
            renew = getattr(running, "renew", None)
            if renew is None:
                return False
            renew(message, ack, reject)
            logger.info("Task %s[%s] was delivered again while it runs: it goes on", *_name(message))
            return True
        if answer is None and running is None:
            return False
        if answer is None or answer.requeue is None:
            ack(logger, errors)
        elif not answer.requeue:
            reject(logger, errors, False)
        else:
            return False
        logger.info("Task %s[%s] was delivered again after it had run: it is not run again", *_name(message))
        return True

    def _forget_old(self) -> None:
        oldest = time.monotonic() - _LONGEST_MEMORY
        for key, answer in list(self.answers.items()):
            if answer.since < oldest and not is_of_redis(answer.message):
                del self.answers[key]


deliveries: Final = Deliveries()


def strategy(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:
    """Return what is done about a task's messages: Celery's `Task.Strategy`."""
    receive: Callable[..., Any] = default(task, app, consumer, **options)
    if not keeps_messages(consumer):
        return receive

    def receive_once(message: Any, body: Any, ack: Any, reject: Any, callbacks: Any, **more: Any) -> Any:
        if was_redelivered(message) and deliveries.take_over(message, ack, reject, consumer.connection_errors):
            return None
        return receive(message, body, ack, reject, callbacks, **more)

    return receive_once


def keeps_messages(consumer: Any) -> bool:
    """Tell whether a consumer's acknowledgements are sent at once, by the greenlet that has one to send."""
    return consumer.hub is None and bool(getattr(consumer.pool, "is_green", False))


def identity(message: Any) -> Identity:
    """Return what tells one execution of one task from every other."""
    headers = message.headers or {}
    names = ("id", "retries", "replaced_task_nesting")
    # A message keeps its delivery tag in Redis, and gets another from RabbitMQ each time.
    return (*(headers.get(name) for name in names), message.delivery_tag if is_of_redis(message) else None)


def was_redelivered(message: Any) -> bool:
    """Tell whether the broker has delivered a message before."""
    headers, info = message.headers or {}, message.delivery_info or {}
    return bool(headers.get("redelivered") or info.get("redelivered"))


def is_of_redis(message: Any) -> bool:
    """Tell whether a message came from Redis: such a one outlives its connection."""
    return is_redis(message.channel)


def is_redis(channel: Any) -> bool:
    """Tell whether a channel is kombu's to Redis."""
    return hasattr(type(channel), "unacked_key")


def is_cut_off(message: Any) -> bool:
    """Tell whether the connection by which a message came is given up."""
    channel = message.channel
    return bool(getattr(channel, "closed", False)) or not getattr(channel, "is_open", True)


def _name(message: Any) -> tuple[Any, Any]:
    return message.headers.get("task"), message.headers.get("id")
