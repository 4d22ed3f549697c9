"""Messages taken from Redis in one step, so that none is lost between its queue and its reader.

A script takes as many as there is room for. They are given out one by one, and count as delivered from the first
moment: what is taken and not yet given out is kept alive with the rest, and goes back with it.

kombu 5.7 has BRPOP take a message out of its queue, and notes then that it was delivered. Whoever dies in between, or
whose connection breaks, takes the message along; so does a machine that is gone, for which Redis goes on waiting. Here
a script does both at once, and Redis tells when it is worth asking again: its client-side caching (CLIENT TRACKING)
announces that a queue which was empty has changed. What the script leaves in Redis is what kombu would have put there.

The base is kombu's own channel, of which private parts are used here and nowhere else: `_brpop_start`, `_brpop_read`
and `_in_poll`, which its poller calls, and `_connparams`. Read in kombu 5.7.0 and redis-py 8.1;
tests/unit/worker/transports/test_redis.py holds it to them.
"""

import functools
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from json import JSONDecoder
from queue import Empty
from typing import Any, Final

import redis
from celery.worker import state
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual
from kombu.utils.encoding import safe_repr
from kombu.utils.json import object_hook
from kombu.utils.scheduling import priority_cycle, round_robin_cycle, sorted_cycle

from pico_celery_core.revocation import REVOKED_SUFFIX
from pico_celery_worker.group_commit import MOST_BYTES, MOST_ITEMS, GroupCommit, counts
from pico_celery_worker.transports.workers import register

logger = logging.getLogger(__name__)

# Part of kombu has types, and these have not.
_channel: Any = kombu_redis.Channel
_poller: Any = kombu_redis.MultiChannelPoller
_qos: Any = kombu_redis.QoS
_message: Any = virtual.Message
_note: Any = virtual.QoS.append
_forget: Any = virtual.QoS.ack
_safe_repr: Any = safe_repr

# kombu's `loads` makes such a one for each message.
_decode: Callable[[str], Any] = JSONDecoder(object_hook=object_hook).decode

# How long to go without asking, in seconds: a connection that is dead shows when it is used, as with BRPOP's timeout.
_LONGEST_WAIT: Final = 1.0

# How long an acknowledgement may go unnoticed by a reader that waits for it, in seconds.
_POLL_INTERVAL: Final = 0.02

_LONGEST_SHOWN: Final = 1000

# What kombu's poller calls the connection of announcements.
_ANNOUNCEMENT: Final = "ANNOUNCEMENT"

# KEYS: where kombu keeps what is delivered, its index by time, the ids of tasks that were revoked, and the queues: one
# priority after the other, and of each the queues in the order to look into them.
# ARGV: the time, how many queues there are of each priority, how many messages to take at most, after how many bytes to
# take no more, and whether a queue that had a message has its next turn after the others.
# It returns whether the queues are empty now, which of the tasks were revoked, and of each message three things: its
# queue, itself, and its delivery tag if it was kept. Empty queues are read once more, for Redis announces changes only
# of keys that were read.
_TAKE: Final = """
local now, width, room, bytes, turns = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local answer = {0, {}}
local are_any_revoked

local function note_if_revoked(message)
  local id = type(message.headers) == 'table' and message.headers.id
  if are_any_revoked == nil then are_any_revoked = redis.call('EXISTS', KEYS[3]) == 1 end
  local expiry = are_any_revoked and type(id) == 'string' and redis.call('ZSCORE', KEYS[3], id)
  if expiry and tonumber(expiry) > tonumber(now) then table.insert(answer[2], id) end
end

local function reserve(item)
  local ok, message = pcall(cjson.decode, item)
  local properties = ok and type(message) == 'table' and message.properties
  local info = type(properties) == 'table' and properties.delivery_info
  local tag = type(info) == 'table' and properties.delivery_tag
  if type(tag) ~= 'string' or not info.exchange or not info.routing_key then return false end
  redis.call('ZADD', KEYS[2], now, tag)
  redis.call('HSET', KEYS[1], tag,
    '[' .. item .. ',' .. cjson.encode(info.exchange) .. ',' .. cjson.encode(info.routing_key) .. ']')
  note_if_revoked(message)
  -- What else is to be looked up or counted for each message that is taken belongs here.
  return tag
end

local order = {}
for queue = 1, width do order[queue] = queue end
for first = 3, #KEYS - width, width do
  local full = {unpack(order)}
  while full[1] and room > 0 and bytes > 0 do
    local queue = full[1]
    local item = redis.call('RPOP', KEYS[first + queue])
    if not item then
      table.remove(full, 1)
    else
      answer[#answer + 1], answer[#answer + 2], answer[#answer + 3] = queue, item, reserve(item)
      room, bytes = room - 1, bytes - #item
      if turns == '1' and width > 1 then
        table.remove(full, 1)
        full[#full + 1] = queue
        for place, other in ipairs(order) do
          if other == queue then table.remove(order, place) break end
        end
        order[width] = queue
      end
    end
  end
end
if room > 0 and bytes > 0 then
  redis.call('EXISTS', unpack(KEYS, 4))
  answer[1] = 1
end
return answer
"""

# The times of requests to which no answer has come: a message with one of these is reserved for nobody.
_inflight_requests: Final[set[float]] = set()


@functools.cache
def reserving(transport_class: Any) -> Any:
    """Return a transport whose channels take messages in one step.

    Args:
        transport_class: kombu's transport to Redis, or to Redis with Sentinel.
    """
    channel_class = transport_class.Channel
    bases = (ReservingChannel,) if channel_class is _channel else (ReservingChannel, channel_class)
    channel = type(f"Reserving{channel_class.__name__}", bases, {})
    return type(transport_class.__name__, (_Reserving, transport_class), {"Channel": channel})


class _Reserving:
    """Comes before one of kombu's transports to Redis."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = _Poller()


class _Poller(_poller):  # type: ignore[misc]
    """kombu's poller, for readers that may not take more messages for now.

    Announcements are read all the same: unread, they would be found readable again and again, without a pause. And
    an acknowledgement, after which more may be taken, is noticed soon. No socket tells of it.
    """

    takes_many = False
    """Whether messages are asked for one by one, so that some may be taken before; not told of when each is there."""

    def get(self, callback: Any, timeout: float | None = None) -> Any:
        self.takes_many = True
        for channel in self._channels:
            if channel.taken:
                channel.deliver_taken()
                return None
        end = time.monotonic() + (math.inf if timeout is None else timeout)
        while (left := end - time.monotonic()) > 0 and not self._may_take():
            if self.poller.poll(min(left, _POLL_INTERVAL)):
                break
        return super().get(callback, None if timeout is None else max(left, 0))

    def _may_take(self) -> bool:
        for channel in self._channels:  # noqa: SIM110  # a generator takes longer, at each turn of the loop
            if channel.active_queues and not channel.qos.can_consume():
                return False
        return True

    def on_readable(self, fileno: int) -> Any:
        channel, kind = self._fd_to_chan.get(fileno, (None, None))
        return channel.handlers[kind]() if kind == _ANNOUNCEMENT else super().on_readable(fileno)


class _ReservingQoS(_qos):  # type: ignore[misc]
    """kombu's account of what is delivered, which the script has kept already."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._removals: GroupCommit[str, None] = GroupCommit("settle", self._remove, (TimeoutError, redis.TimeoutError))

    @property
    def room(self) -> int:
        """How many messages may be taken at once."""
        if "can_consume" in vars(self):
            return 1  # Celery has its `worker_disable_prefetch` look for a free slot each time
        left = self.can_consume_max_estimate()
        return MOST_ITEMS if left is None else max(1, min(left, MOST_ITEMS))

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message, together with those that others acknowledge or reject."""
        self._removals.submit(delivery_tag)
        _forget(self, delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Reject a message: put it back, or remove it together with those that others acknowledge or reject."""
        if requeue:
            super().reject(delivery_tag, requeue=True)
        else:
            self.ack(delivery_tag)

    def _remove(self, delivery_tags: Sequence[str]) -> list[None]:
        with self.channel.conn_or_acquire() as client, client.pipeline() as pipe:
            pipe.zrem(self.unacked_index_key, *delivery_tags).hdel(self.unacked_key, *delivery_tags).execute()
        return [None] * len(delivery_tags)

    def append(self, message: Any, delivery_tag: str) -> None:
        if delivery_tag == self.channel.reserved:
            _note(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)


class _NoMessageError(Exception):
    """What was in a queue is no message."""


# What kombu raises where a message is not what it takes it for.
_MALFORMED: Final = (AttributeError, LookupError, RecursionError, TypeError, ValueError)


class _Message(_message):  # type: ignore[misc]
    """kombu's message, which tells what is wrong with itself from what fails when it is received."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(*args, **kwargs)
        except _MALFORMED as error:
            raise _NoMessageError from error


class ReservingChannel(_channel):  # type: ignore[misc]
    """kombu's channel to Redis, which takes messages in one step."""

    QoS = _ReservingQoS
    Message = _Message

    reserved: str | None = None
    """The delivery tag of the message that is being delivered, if Redis keeps it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._brpop_sent_at: float | None = None
        self._reserves = True
        self._unkept: set[str] = set()
        self._request: Any = None  # the connection by which there was asked
        self._requested_at = 0.0
        self._requested_queues: list[str] = []
        self._is_closing = False
        self.taken: deque[tuple[str, bytes, bytes]] = deque()
        """The messages that were taken and not yet given out, each with its queue and its delivery tag."""
        self._waits_until = 0.0
        self._changed = False
        self._tracked_socket: Any = None
        self._announcements: Any = None
        super().__init__(*args, **kwargs)
        self._reserves = self.ack_emulation
        self.handlers[_ANNOUNCEMENT] = self._read_announcements
        # Under another strategy of the user's own, a queue's turn may depend on each message before.
        self._may_take_many = type(self._queue_cycle) in (priority_cycle, round_robin_cycle, sorted_cycle)
        self._takes_turns = type(self._queue_cycle) is round_robin_cycle

    @property
    def _in_poll(self) -> Any:
        """What kombu's poller looks at: the connection by which something is to come, else it asks again."""
        if self._request is None and time.monotonic() < self._waits_until:
            return self.client.connection
        return self._request

    @_in_poll.setter
    def _in_poll(self, connection: Any) -> None:
        self._request = connection or None
        self._waits_until = 0.0

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> Any:
        """Consume from a queue. What nobody will acknowledge, such as the replies of other workers, is not kept."""
        if no_ack and queue not in self._fanout_queues:
            self._unkept.add(queue)
        else:
            self._unkept.discard(queue)
        return super().basic_consume(queue, no_ack, *args, **kwargs)

    def renew_leases(self, client: Any = None) -> None:
        """Tell Redis that what was delivered here is still in hand, so that nobody else is given it.

        Args:
            client: By which to tell, where it is done in another thread than the channel's.
        """
        qos = self.qos
        tags = [tag for tag in tuple(qos._delivered) if tag not in qos._dirty]  # noqa: SLF001
        with self.conn_or_acquire(client) as connected:
            if tags and self.ack_emulation:
                connected.zadd(self.unacked_index_key, dict.fromkeys(tags, time.time()), xx=True)
            register(self, connected)

    def close(self) -> None:
        """Close the channel."""
        self._is_closing = True
        self._waits_until = 0.0  # or kombu waits for an answer that does not come
        super().close()

    def _connparams(self, *args: Any, **kwargs: Any) -> Any:
        if getattr(self.connection, "client", None) is None:
            # Where closing a lost connection has failed once, Celery 5.7 tries it again, and ends the worker if that
            # fails by what is no connection error.
            raise ConnectionError("The connection has been given up.")
        return super()._connparams(*args, **kwargs)

    def _brpop_start(self, timeout: float | None = None) -> None:
        if not self._reserves or not self._unkept.isdisjoint(self.active_queues):
            super()._brpop_start(timeout)
            return
        queues = self._queue_cycle.consume(len(self.active_queues))
        if not queues:
            return
        connection = self.client.connection
        if self._tracked_socket is not connection._sock and not self._track(connection):  # noqa: SLF001
            self._reserves = False
            super()._brpop_start(timeout)
            return
        self._in_poll = connection
        self._brpop_sent_at = time.monotonic()  # by which kombu notices that no answer comes
        self._changed = False
        self._requested_queues = queues
        self._requested_at = time.time()
        _inflight_requests.add(self._requested_at)
        waiting = [self._q_for_pri(queue, step) for step in self.priority_steps for queue in queues]
        kept = (self.unacked_key, self.unacked_index_key, self.unacked_key + REVOKED_SUFFIX)
        keys = [self.global_keyprefix + key for key in (*kept, *waiting)]
        room = self.qos.room if self._may_take_many and self.connection.cycle.takes_many else 1
        limits = (len(queues), room, MOST_BYTES, int(self._takes_turns))
        connection.send_command("EVAL", _TAKE, len(keys), *keys, repr(self._requested_at), *limits)

    def _brpop_read(self, **options: Any) -> bool:
        if not self._requested_queues:
            done: bool = super()._brpop_read(**options)
            return done
        queues, self._requested_queues = self._requested_queues, []
        connection = self.client.connection
        try:
            try:
                are_empty, revoked, *answer = self.client.parse_response(connection, "EVAL", **options)
            except self.connection_errors:
                connection.disconnect()
                raise
            _inflight_requests.discard(self._requested_at)
        finally:
            self._in_poll = None
            self._brpop_sent_at = None
            self._flush_brpop_reauth()
        if are_empty and not self._changed:
            self._waits_until = time.monotonic() + _LONGEST_WAIT
        if revoked:
            # Celery discards their messages, as if it had been told while they were waiting here.
            state.merge_revoked([task_id.decode() for task_id in revoked])
        taken = [*zip(*[iter(answer)] * 3, strict=True)]
        if taken:
            counts["take"].add(len(taken))
        for number, item, tag in taken:
            queue = queues[number - 1]
            self._queue_cycle.rotate(queue)
            if tag is None:
                self._accept(queue, item)
            elif self._is_still_reserved(tag):
                self.taken.append((queue, item, tag))
                _note(self.qos, None, tag.decode())
        if not self.taken:
            raise Empty
        if not self._is_closing:
            self.deliver_taken()
        return True

    def deliver_taken(self) -> None:
        """Give out the next of the messages that were taken."""
        self._accept(*self.taken.popleft())

    def _basic_cancel(self, consumer_tag: str) -> None:
        """Cancel a consumer, and put back what was taken for it and not yet given out."""
        super()._basic_cancel(consumer_tag)
        active = {*self.active_queues}
        left = [tag.decode() for queue, _, tag in self.taken if queue not in active]
        self.taken = deque(taken for taken in self.taken if taken[0] in active)
        for tag in reversed(left):  # the next to be taken is put back last
            self.qos.restore_by_tag(tag)
            _forget(self.qos, tag)

    def _is_still_reserved(self, tag: bytes) -> bool:
        """Tell whether a message was given to nobody else, because its answer waited here for too long to be read."""
        if time.time() - self._requested_at < self.visibility_timeout / 2:
            return True
        with self.conn_or_acquire() as client:
            if client.zscore(self.unacked_index_key, tag) != self._requested_at:
                return False
            client.zadd(self.unacked_index_key, {tag: time.time()}, xx=True)
            return True

    def _accept(self, queue: str, item: bytes, tag: bytes | None = None) -> None:
        self.reserved = tag.decode() if tag is not None else None
        try:
            self.connection._deliver(_envelope(item), queue)  # noqa: SLF001
        except _NoMessageError as error:
            # There is nothing that it could be rejected by.
            logger.error(
                "Dropped a malformed message from queue %s: %r. Body: %s", queue, error.__cause__, _shown(item)
            )
            if self.reserved is not None:
                self.qos.ack(self.reserved)

    def _track(self, connection: Any) -> bool:
        """Have changes announced of the queues that are found empty by a connection; tell whether that can be done."""
        try:
            if self._announcements is None:
                self._announcements = _Announcements(self.client.connection_pool)
                self.connection.cycle._register(self, self._announcements, _ANNOUNCEMENT)  # noqa: SLF001
            _command(connection, "EVAL", "return 1", 0)
            _command(connection, "CLIENT", "TRACKING", "ON", "REDIRECT", self._announcements.number, "NOLOOP")
        except self.ResponseError as error:
            if self._tracked_socket is not None:
                raise ConnectionError("Redis does not announce changes any more.") from error  # it has before
            logger.warning(
                "Redis refuses what it takes to reserve a message when it leaves its queue (%s). Should this worker be "
                "killed in the moment between, the message is lost. Allow its user EVAL and CLIENT TRACKING.",
                error,
            )
            return False
        self._tracked_socket = connection._sock  # noqa: SLF001
        self._give_back_unread()
        return True

    def _give_back_unread(self) -> None:
        """Put back what was reserved by requests whose answers were lost with their connection."""
        with self.conn_or_acquire() as client:
            for moment in tuple(_inflight_requests):
                for tag in client.zrange(self.unacked_index_key, moment, moment, byscore=True):
                    self.qos.restore_by_tag(tag, client)
                _inflight_requests.discard(moment)

    def _read_announcements(self) -> bool:
        self._announcements.read()
        # The answer to a request may be on its way: found empty before it changed.
        self._changed = True
        self._waits_until = 0.0
        return True


class _Announcements:
    """The connection by which Redis tells of changes."""

    def __init__(self, pool: Any) -> None:
        self.connection = pool.get_connection()
        self.number = _command(self.connection, "CLIENT", "ID")
        # In the older protocol they come as messages of this channel; in the newer one Redis closes the connection of
        # whoever is silent and subscribed to nothing, if it has a `timeout`.
        self.connection.send_command("SUBSCRIBE", "__redis__:invalidate")
        self.connection.read_response(push_request=True)

    def read(self) -> None:
        """Read all that have come, at least one."""
        self.connection.read_response(push_request=True)
        while self.connection.can_read(timeout=0):
            self.connection.read_response(push_request=True)


def _command(connection: Any, *words: Any) -> Any:
    connection.send_command(*words)
    return connection.read_response()


def _envelope(item: bytes) -> Any:
    """Return what kombu has put around a message.

    Raises:
        _NoMessageError: If it is not what kombu would put around one.
    """
    try:
        message = _decode(item.decode())
        properties = message["properties"]
        info, tag = properties["delivery_info"], properties["delivery_tag"]
        if isinstance(tag, str) and "exchange" in info and "routing_key" in info:
            return message
    except _MALFORMED as error:
        raise _NoMessageError from error
    problem = ValueError("its delivery_tag, or where it belongs, is missing")
    raise _NoMessageError from problem


def _shown(item: bytes) -> str:
    text = str(_safe_repr(item))
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
