"""The consumers of our workers, that lose no message: neither on its way from Redis, nor with a connection."""

import errno
import functools
import logging
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from amqp.exceptions import AccessRefused, NotAllowed
from celery.exceptions import InvalidTaskError, NotRegistered, WorkerShutdown
from celery.utils.imports import symbol_by_name
from celery.worker import loops, state
from celery.worker.consumer import Consumer
from celery.worker.consumer.control import Control

from pico_celery_core.connections import connection_hint
from pico_celery_core.errors import MessageTooLargeError
from pico_celery_worker.consumer.defaults import set_default
from pico_celery_worker.consumer.descriptors import most_connections
from pico_celery_worker.consumer.failures import forget, is_short_of_memory, leave
from pico_celery_worker.consumer.gossip import TolerantGossip
from pico_celery_worker.consumer.log_lines import keep_lines
from pico_celery_worker.consumer.loop import ReceiveLoop
from pico_celery_worker.consumer.masking import UntakenMessages, shorten_pool_log
from pico_celery_worker.consumer.remote_control import RemoteControl
from pico_celery_worker.consumer.request import AsyncRequest
from pico_celery_worker.consumer.revocation import register_command
from pico_celery_worker.consumer.suspects import Suspects
from pico_celery_worker.consumer.unacked import settles_at_once, unacked_messages
from pico_celery_worker.consumer.validation import account_for, rejecting_malformed
from pico_celery_worker.consumer.visibility import VisibilityStep
from pico_celery_worker.dead_letters.keeping import keep
from pico_celery_worker.dead_letters.letter import Reason
from pico_celery_worker.pools import pool_name
from pico_celery_worker.transports import with_reliable_transport

logger = logging.getLogger(__name__)

# How long to leave a broker alone that has refused something, in seconds.
_PAUSE: Final = 1.0


@dataclass(frozen=True)
class _NoConnection:
    """Stands where a connection is missing."""

    connection_errors: tuple[type[Exception], ...]
    channel_errors: tuple[type[Exception], ...]

    def __bool__(self) -> bool:
        return False


class ReliableConsumer(Consumer):  # type: ignore[misc]  # Celery has no types
    """Celery's consumer, with our transports, which rejects malformed messages."""

    on_task_request: Callable[[Any], None]

    _connection: Any = None

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc]
        """Celery's steps, with gossip that survives what it cannot read, and ours for the visibility timeout."""

        def claim_steps(self) -> dict[str, Any]:
            """Return the steps by their names."""
            ours = {step.name: step for step in (TolerantGossip, VisibilityStep)}
            return {**super().claim_steps(), **ours}

        def start(self, parent: Any) -> None:
            """Connect and receive messages; try again where no file can be opened, as with a lost connection.

            Celery itself cancels all tasks then, and ends the worker.

            Args:
                parent: The consumer.
            """
            try:
                super().start(parent)
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE):
                    raise
                time.sleep(_PAUSE)
                raise ConnectionResetError(f"No more files can be opened for now: {error}") from error

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._suspects = Suspects(self, self._accounting_for_failures(self.on_task_request))
        self.on_task_request = self._suspects.receive
        shorten_pool_log()
        keep_lines()
        register_command()

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], Any]:
        """Return what receives a message. Celery asks for it each time it has connected."""
        return rejecting_malformed(self, super().create_task_handler(*args, **options))

    def _accounting_for_failures(self, begin: Callable[[Any], Any]) -> Callable[[Any], Any]:
        # A request whose time comes later begins in Celery's timer, which would only log what fails.
        def begin_or_leave(request: Any) -> None:
            try:
                begin(request)
            except Exception as error:  # noqa: BLE001  # the message has to be accounted for
                account_for(self, request.message, error)

        return begin_or_leave

    def on_close(self) -> None:
        """Forget what has not begun, with the connection by which it came."""
        self._suspects.forget()
        super().on_close()

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Acknowledge a message that cannot be decoded, as Celery does, when it is kept as a dead letter.

        Reject one that becomes too large, and leave one with the broker that takes more memory than there is.
        """
        if isinstance(exc, MessageTooLargeError):
            self.on_invalid_task(None, message, exc)
        elif is_short_of_memory(exc):
            leave(message, exc)
        elif self.is_kept(message, exc, Reason.UNDECODABLE):
            self._untaken.hidden_undecoded(super().on_decode_error)(message, exc)

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """Reject what is no task's message, and log it without what may be sensitive."""
        if self.is_kept(message, InvalidTaskError("it is no message of a task"), Reason.MALFORMED):
            self._untaken.hidden(super().on_unknown_message)(body, message)

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Reject the message of a task that is not registered, and log it without what may be sensitive."""
        if self.is_kept(message, NotRegistered(*exc.args), Reason.UNKNOWN_TASK):
            self._untaken.hidden(super().on_unknown_task)(body, message, exc)

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Reject a malformed message, and log it without what may be sensitive."""
        if self.is_kept(message, exc, Reason.MALFORMED):
            self._untaken.hidden(super().on_invalid_task)(body, message, exc)

    def is_kept(self, message: Any, error: Exception, reason: Reason) -> bool:
        """Keep a message as a dead letter, where the settings say so, and tell whether it may be given up.

        Where it could not be kept, it stays unacknowledged, and is not counted among the messages that this worker may
        have at a time.

        Args:
            message: The message.
            error: Why it cannot be run.
            reason: Why it is given up.
        """
        if keep(self.app, message, error, reason):
            return True
        forget(message)
        self.qos.increment_eventually()
        return False

    @property
    def _untaken(self) -> UntakenMessages:
        return UntakenMessages(self.app)

    @property
    def connection(self) -> Any:
        """The connection to the broker; while there is none, what is false and knows the errors of one.

        Celery 5.7 ignores errors by it where it stops what came by a lost connection (`ConsumerStep._close`), and ends
        the worker if it is None then.
        """
        return self._connection or self._no_connection

    @connection.setter
    def connection(self, connection: Any) -> None:
        self._connection = connection

    @cached_property
    def _no_connection(self) -> Any:
        return _NoConnection(self.connection_errors, self.channel_errors)

    def connection_for_read(self, heartbeat: float | None = None) -> Any:
        """Return a connection by which messages and remote control's commands come."""
        connected = self._connected(self.app.connection_for_read(heartbeat=heartbeat))
        connected.transport.reads = True
        return connected

    def connection_for_write(self, url: str | None = None, heartbeat: float | None = None) -> Any:
        """Return a connection by which events go."""
        return self._connected(self.app.connection_for_write(url=url, heartbeat=heartbeat))

    def _connected(self, connection: Any) -> Any:
        is_first = self.first_connection_attempt
        try:
            return self.ensure_connected(with_reliable_transport(connection))
        except (AccessRefused, NotAllowed) as error:
            if not is_first:
                raise
            broker = connection.as_uri()
            hint = connection_hint(str(error), broker, "broker_url")
            logger.critical(
                "The worker cannot start: %s refuses the connection: %s. %s", broker, str(error).rstrip("."), hint
            )
            raise WorkerShutdown(1) from error

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Give up the connection. A broker that only refuses something is given a moment to come round."""
        unacked_messages.settled.note_loss()
        super().on_connection_error_after_connected(exc)
        if isinstance(exc, self.channel_errors) or isinstance(exc.__cause__, self.channel_errors):
            time.sleep(_PAUSE)

    def cancel_active_requests(self) -> None:
        """Cancel what runs, as the worker stops. A task whose message is gone counts as revoked.

        Celery 5.7 says of such a task that it will be tried again, which it never is: nobody has its message.
        """
        active = tuple(state.active_requests)
        gone = [request for request in active if request.acknowledged and not request.task.acks_late]
        for request in tuple(state.reserved_requests):
            # A process may run it already, and this one has not heard of that yet.
            if isinstance(request, AsyncRequest) and request not in state.active_requests:
                request.cancel_when_accepted(self.pool)
        super().cancel_active_requests()
        for request in gone:
            context = request._context  # noqa: SLF001  # as where Celery announces that a task is revoked
            try:
                # What has succeeded meanwhile remains a success.
                request.task.backend.mark_as_revoked(request.id, "terminated", context, request.store_errors)
            except Exception as error:  # noqa: BLE001
                # The next would keep the worker waiting for as long.
                logger.error("The result backend cannot be told of tasks that are cancelled: %r", error)
                return

    def loop(self, *args: Any) -> None:
        """Receive messages until the worker stops, and connect again where the broker refuses something.

        Redis does so while it may not write, RabbitMQ by closing a channel. While a worker starts, it is more likely
        that its settings are wrong, so then it ends. Celery calls this method, where there is one, in the place of a
        loop of its own.

        Args:
            args: What `loop_args` returns.
        """
        conf = self.app.conf
        set_default(conf, "broker_channel_error_retry", True)
        try:
            self.receive(*args)
        except self.channel_errors as error:
            if not (conf.broker_channel_error_retry and issubclass(ConnectionResetError, self.connection_errors)):
                raise
            raise ConnectionResetError(f"The broker refused something: {error!r}") from error

    def receive(self, *args: Any) -> None:
        """Receive messages by Celery's own loop.

        Args:
            args: What `loop_args` returns.
        """
        receive = self._users_loop or (loops.asynloop if self.hub else loops.synloop)
        receive(*args)

    @property
    def _users_loop(self) -> Any:
        return getattr(super(), "loop", None)


class GreenConsumer(ReliableConsumer):
    """The consumer of a worker with greenlets, after whose reconnection nothing runs twice that still runs."""

    class Blueprint(ReliableConsumer.Blueprint):
        """Celery's steps, with a remote control that outlives its connection."""

        def claim_steps(self) -> dict[str, Any]:
            """Return the steps by their names. Those that need Celery's remote control get ours."""
            steps = {**super().claim_steps(), Control.name: RemoteControl}
            for step in steps.values():
                needed = [symbol_by_name(other) for other in step.requires]
                step.requires = [RemoteControl if other is Control else other for other in needed]
            return steps

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        conf = kwargs["app"].conf
        connection_timeout = conf.broker_connection_timeout
        super().__init__(*args, **kwargs)
        # Celery 5.7 takes the limit away under gevent, for a gevent of long ago. Without it, an attempt to connect that
        # begins while the network loses what is sent never ends.
        conf.broker_connection_timeout = connection_timeout
        # After a reconnection Celery takes fewer messages at first, for those that run are not among the unacknowledged
        # ones any more. Here they are; and with RabbitMQ it does so from greenlets that may not read from a connection.
        set_default(conf, "worker_enable_prefetch_count_reduction", False)
        self._settling = threading.BoundedSemaphore(most_connections())
        self._settles_together = pool_name(type(self.pool)) == "gevent"
        if settles_at_once(self):
            unacked_messages.enable()

    def call_soon_ack(self, p: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Acknowledge or reject a message.

        Those that put one back wait for a connection, as each needs one in Redis. So do all of them under eventlet.

        Args:
            p: Does it.
            args: Its positional arguments: a logger, errors, and for a rejection whether to put the message back.
            kwargs: Its keyword arguments.
        """
        with self._settling if not self._settles_together or args[2:3] == (True,) else nullcontext():
            return super().call_soon_ack(p, *args, **kwargs)

    def receive(self, *args: Any) -> None:
        """Receive messages by a loop of our own.

        Args:
            args: What `loop_args` returns.
        """
        if self.hub or self._users_loop:
            super().receive(*args)
        else:
            ReceiveLoop(self).run()

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Give up the connection, but not what runs, unless that is to be cancelled."""
        if not self.app.conf.worker_cancel_long_running_tasks_on_connection_loss:
            unacked_messages.detach(getattr(self.task_consumer, "channel", None))
        super().on_connection_error_after_connected(exc)


@functools.cache
def derive_consumer(base: Any, is_green: bool) -> Any:
    """Return a consumer of ours that derives from another: Celery's, or one of the user's own.

    Args:
        base: The other, as its class.
        is_green: Whether the pool runs greenlets.
    """
    ours = GreenConsumer if is_green else ReliableConsumer
    if not issubclass(base, Consumer) or issubclass(base, ours):
        return base
    if issubclass(ours, base):
        return ours
    blueprint = type("Blueprint", (ours.Blueprint, base.Blueprint), {})
    return type(base.__name__, (ours, base), {"Blueprint": blueprint, "__module__": base.__module__})
