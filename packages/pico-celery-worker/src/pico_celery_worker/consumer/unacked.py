"""Messages of tasks that run, when the connection they came by is lost.

Celery 5.7 gives them up: the broker, or kombu in Redis, delivers them again, so that a task runs a second time beside
the first, and what the first has to say at its end is lost. Here a task keeps its message. Redis knows a message by a
name of its own, so it is not given back and is acknowledged by the next connection. RabbitMQ delivers it again: a task
that still runs takes the new delivery for its own, and one that has ended has it acknowledged. So it is remembered for
a while what was settled here, for an acknowledgement that was sent may be lost on its way, or come too late for Redis.

To keep messages is for the pools of greenlets, whose acknowledgements are sent at once; the memory is for all.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from celery.worker import state
from celery.worker.strategy import default
from kombu.transport import virtual

from pico_celery_worker.loop.log_fields import log_fields

logger = logging.getLogger(__name__)

Identity: TypeAlias = tuple[Any, ...]

ACKNOWLEDGED: Final = "acknowledged"
REJECTED: Final = "rejected"
REQUEUED: Final = "requeued"

EXECUTED: Final = "executed"
RUNNING: Final = "running"
ENDED: Final = "ended"

# For how long a broker may take to deliver again what was settled, in seconds.
_LONGEST_MEMORY: Final = 600.0

# So many settled messages are remembered at least, which is more than a worker has prefetched.
_LEAST_REMEMBERED: Final = 5_000

_REDELIVERED_RUNNING: Final = "Task %s[%s] was redelivered while it runs: the running execution goes on"
_REDELIVERED_ENDED: Final = "Task %s[%s] was redelivered after it had ended: settled without running it again"

# What kombu's virtual transports do to acknowledge a message, without what Redis adds: the process forgets it, and
# Redis does not.
_forget: Final[Callable[[Any, str], None]] = virtual.QoS.ack


@dataclass(frozen=True, slots=True)
class PendingSettlement:
    """What Redis could not be told about a message.

    Args:
        message: The message.
        requeue: None to acknowledge it, else whether to reject it back into its queue.
    """

    message: Any
    requeue: bool | None = None

    def send(self) -> None:
        """Tell the broker, by the channel that the message has now."""
        message: Any = self.message
        if self.requeue is None:
            message.ack()
        else:
            message.reject(requeue=self.requeue)


class Settled:
    """Which messages were acknowledged or rejected for good in the last minutes, but not the messages themselves.

    They are noted in two generations, so that nothing has to be looked for to forget the older one.
    """

    def __init__(self) -> None:
        self._recent: dict[Identity, tuple[float, bool]] = {}
        self._older: dict[Identity, tuple[float, bool]] = {}
        self._at_losses: dict[Identity, tuple[float, bool]] = {}

    def note(self, key: Identity, rejected: bool) -> None:
        """Remember a message.

        Args:
            key: Its identity.
            rejected: Whether it was rejected, else it was acknowledged.
        """
        if len(self._recent) >= _LEAST_REMEMBERED:
            self._older, self._recent = self._recent, {}
        self._recent[key] = time.monotonic(), rejected

    def note_loss(self) -> None:
        """Keep what is remembered now, whatever follows: a connection is lost, and perhaps what was said by it last.

        RabbitMQ may notice only minutes later, and delivers again then.
        """
        known = (*self._at_losses.items(), *self._older.items(), *self._recent.items())
        oldest = time.monotonic() - _LONGEST_MEMORY
        fresh = [(key, value) for key, value in known if value[0] >= oldest]
        self._at_losses = dict(fresh[-2 * _LEAST_REMEMBERED :])

    def was_rejected(self, key: Identity) -> bool | None:
        """Tell whether a message was rejected, or acknowledged; None if nothing is known of it."""
        known = self._recent.get(key) or self._older.get(key) or self._at_losses.get(key)
        return None if known is None or known[0] < time.monotonic() - _LONGEST_MEMORY else known[1]


class UnackedMessages:
    """What is known about messages whose connection is lost. One a process, as `celery.worker.state`."""

    def __init__(self) -> None:
        self.settled = Settled()
        self.is_enabled = False
        self.pending: dict[Identity, PendingSettlement] = {}
        self.settlements: dict[str, int] = dict.fromkeys((ACKNOWLEDGED, REJECTED, REQUEUED), 0)
        """How many messages of async tasks were settled, by how."""
        self.redeliveries: dict[str, int] = dict.fromkeys((EXECUTED, RUNNING, ENDED), 0)
        """How many messages of async tasks were delivered again, by what became of them."""
        self._held: list[Any] = []
        self._waiting: list[str] = []

    def enable(self) -> None:
        """Begin to keep messages, in a worker whose answers are sent at once."""
        self.is_enabled = True

    def settle(self, request: Any, requeue: bool | None, give: Callable[[], Any]) -> None:
        """Tell the broker about a request's message, or note what it could not be told.

        Args:
            request: The request.
            requeue: None to acknowledge it, else whether to reject it back into its queue.
            give: Tells the broker.
        """
        if request.acknowledged:
            give()
            return
        self.settlements[ACKNOWLEDGED if requeue is None else REQUEUED if requeue else REJECTED] += 1
        message = request.message
        if self.is_enabled:
            self._send_or_note(request, requeue, give)
        else:
            give()
        if not requeue:
            self.settled.note(identity(message), requeue is not None)

    def _send_or_note(self, request: Any, requeue: bool | None, give: Callable[[], Any]) -> None:
        message = request.message
        if not channel_is_closed(message):
            try:
                give()
            except Exception as error:  # noqa: BLE001  # Redis may refuse it for now
                name, task_id = _name(message)
                fields = log_fields("settling-failed", name, task_id)
                logger.warning(
                    "Could not settle the message of task %s[%s], will retry: %r", name, task_id, error, extra=fields
                )
        if not message.acknowledged:
            if is_of_redis(message):
                self.pending[identity(message)] = PendingSettlement(message, requeue)
            request.acknowledged = True

    def detach(self, channel: Any = None) -> None:
        """Before a connection is given up: keep Redis from giving out again what runs or has just ended.

        Args:
            channel: By which messages came. It may have some that have not begun, such as those that wait for their
                time. Celery forgets them, and kombu may not be able to give them back.
        """
        running = [request.message for request in state.active_requests if not request.acknowledged]
        ended = [answer.message for answer in self.pending.values()]
        for message in (*running, *ended):
            if is_of_redis(message) and not message.acknowledged and not channel_is_closed(message):
                _forget(message.channel.qos, message.delivery_tag)
                self._held.append(message)
        qos = getattr(channel, "qos", None)
        if is_redis(channel) and qos is not None:
            waiting = [tag for tag in qos._delivered if tag not in qos._dirty]  # noqa: SLF001
            for tag in waiting:
                _forget(qos, tag)
            self._waiting += waiting

    def reattach(self, channel: Any) -> None:
        """With a new connection: go on with what was held, and catch up on what could not be told."""
        answered = {id(answer.message) for answer in self.pending.values()}
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
        self.flush()

    def flush(self) -> None:
        """Tell Redis what it could not be told before."""
        for key, answer in list(self.pending.items()):
            if not channel_is_closed(answer.message):
                answer.send()
                self.pending.pop(key, None)

    def claim_redelivered(self, message: Any, ack: Callable[..., Any], reject: Callable[..., Any], errors: Any) -> bool:
        """Take a message that was delivered again for one that is known, and tell whether it is.

        Args:
            message: The message.
            ack: Acknowledges it.
            reject: Rejects it.
            errors: What either may raise when the connection is lost again.
        """
        key = identity(message)
        self.pending.pop(key, None)
        running: Any = next((r for r in tuple(state.active_requests) if identity(r.message) == key), None)
        rebind = getattr(running, "rebind", None)
        if self.is_enabled and rebind is not None and not running.acknowledged:
            rebind(message, ack, reject)
            self.redeliveries[RUNNING] += 1
            _log_redelivered(_REDELIVERED_RUNNING, "task-redelivered-running", message)
            return True
        rejected = self.settled.was_rejected(key)
        if rejected is None:
            self.redeliveries[EXECUTED] += 1
            return False
        self.redeliveries[ENDED] += 1
        if rejected:
            reject(logger, errors, False)
        else:
            ack(logger, errors)
        _log_redelivered(_REDELIVERED_ENDED, "task-redelivered-ended", message)
        return True


unacked_messages: Final = UnackedMessages()


def strategy(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:
    """Return what is done about a task's messages: Celery's `Task.Strategy`."""
    receive: Callable[..., Any] = default(task, app, consumer, **options)

    def receive_once(message: Any, body: Any, ack: Any, reject: Any, callbacks: Any, **more: Any) -> Any:
        if was_redelivered(message) and unacked_messages.claim_redelivered(
            message, ack, reject, consumer.connection_errors
        ):
            return None
        return receive(message, body, ack, reject, callbacks, **more)

    return receive_once


def settles_at_once(consumer: Any) -> bool:
    """Tell whether a consumer's acknowledgements are sent at once, by the greenlet that has one to send."""
    return consumer.hub is None and bool(getattr(consumer.pool, "is_green", False))


def identity(message: Any) -> Identity:
    """Return what tells one execution of one task from every other."""
    get = (message.headers or {}).get
    # A message keeps its delivery tag in Redis, and gets another from RabbitMQ each time.
    tag = message.delivery_tag if is_of_redis(message) else None
    return get("id"), get("retries"), get("replaced_task_nesting"), tag


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


def channel_is_closed(message: Any) -> bool:
    """Tell whether the connection by which a message came is given up."""
    channel = message.channel
    return bool(getattr(channel, "closed", False)) or not getattr(channel, "is_open", True)


def _log_redelivered(text: str, event: str, message: Any) -> None:
    name, task_id = _name(message)
    logger.info(text, name, task_id, extra=log_fields(event, name, task_id))


def _name(message: Any) -> tuple[Any, Any]:
    return message.headers.get("task"), message.headers.get("id")
