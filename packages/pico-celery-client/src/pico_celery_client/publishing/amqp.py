"""Publishing to RabbitMQ: many messages in one system call, and one wait for all their confirmations.

py-amqp 5.4 writes each message by itself, and with `confirm_publish` waits for its confirmation before the next one.
What is used of py-amqp here is public; tests/unit/client/publishing/test_amqp.py holds it to that.
"""

import functools
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from amqp import spec
from amqp.exceptions import MessageNacked, RecoverableConnectionError
from amqp.method_framing import frame_writer
from kombu.transport import pyamqp

# Part of py-amqp has types, and these have not.
_frame_writer: Any = frame_writer
_nacked: Any = MessageNacked
_lost: Any = RecoverableConnectionError


class AmqpBatch:
    """Messages that go to RabbitMQ together.

    Args:
        channel: The channel that publishes them.
    """

    def __init__(self, channel: "_BatchingChannel") -> None:
        self._channel = channel
        self._frames: list[bytes] = []
        self._tags: list[int] = []
        self.size = 0
        """How large they are, in bytes."""
        self.write_frame = _frame_writer(channel.connection, self)

    def write(self, frame: Any) -> None:
        """Keep a frame; py-amqp writes it here instead of to its socket.

        Args:
            frame: A view of a buffer that is used again.
        """
        self._frames.append(bytes(frame))
        self.size += len(frame)

    def end(self, tag: int) -> None:
        """End a message.

        Args:
            tag: What RabbitMQ is going to call it in its confirmation.
        """
        self._tags.append(tag)

    def send(self) -> list[Exception | None]:
        """Send the messages, wait until they are confirmed if they are to be, and begin anew.

        Returns:
            For each of them None, or why it was not confirmed.

        Raises:
            amqp.exceptions.RecoverableConnectionError: If the connection is lost. Some of them may have arrived.
        """
        frames, tags = self._frames, self._tags
        self._frames, self._tags, self.size = [], [], 0
        connection = self._channel.connection
        if connection is None:
            raise _lost("The connection was closed.")
        try:
            connection.transport.write(b"".join(frames))
        except OSError as error:
            connection.collect()  # part of a frame may have been written, and nothing can follow that
            raise _lost(f"Publishing {len(tags)} messages: {error}") from error
        if not connection.confirm_publish:
            return [None] * len(tags)
        return self._channel.confirmed(tags)


class _BatchingChannel(pyamqp.Channel):
    _batch: AmqpBatch | None = None
    _published = 0
    _confirms = False

    @contextmanager
    def collecting(self) -> Generator[AmqpBatch, None, None]:
        """Have what is published in the block wait in a batch, until it is sent."""
        if self.connection is None:
            raise _lost("The connection was closed.")
        if self.connection.confirm_publish:
            self.confirm_select()
        self._batch = AmqpBatch(self)
        try:
            yield self._batch
        finally:
            self._batch = None

    def open(self) -> Any:
        """Open the channel, also again after RabbitMQ has closed it: its messages are counted anew then."""
        self._published, self._confirms = 0, False
        return super().open()

    def confirm_select(self, nowait: bool = False) -> Any:
        """Have RabbitMQ confirm messages from now on."""
        if self._confirms:
            return None
        self._confirms = True
        self._published = 0
        return super().confirm_select(nowait)

    def send_method(self, sig: Any, *args: Any, **options: Any) -> Any:
        """Send a method, and count the messages, as RabbitMQ does."""
        sent = super().send_method(sig, *args, **options)
        if sig == spec.Basic.Publish:
            self._published += 1
        return sent

    def basic_publish(self, *args: Any, **options: Any) -> Any:
        """Publish a message, or add it to the batch."""
        if self._batch is None:
            return super().basic_publish(*args, **options)
        connection = self.connection
        if connection is None:
            raise _lost("The connection was closed.")
        to_socket, connection.frame_writer = connection.frame_writer, self._batch.write_frame
        try:
            published = super().basic_publish(*args, **options)
        finally:
            connection.frame_writer = to_socket
        self._batch.end(self._published)
        return published

    def basic_publish_confirm(self, *args: Any, **options: Any) -> Any:
        """Publish a message and wait for its confirmation, or add it to the batch."""
        if self._batch is None:
            return super().basic_publish_confirm(*args, **options)
        return _BatchingChannel.basic_publish(self, *args, **options)

    def confirmed(self, tags: list[int]) -> list[Exception | None]:
        """Wait until RabbitMQ has confirmed or refused messages.

        Args:
            tags: What it calls them: they are numbered as they come.

        Returns:
            For each of them None, or why it was not confirmed.
        """
        outcomes: dict[int, Exception | None] = {}
        waiting = set(tags)

        def settle(outcome: Exception | None, tag: int, multiple: bool) -> None:
            settled = {other for other in waiting if other <= tag} if multiple else {tag} & waiting
            waiting.difference_update(settled)
            outcomes.update(dict.fromkeys(settled, outcome))

        def ack(tag: int, multiple: bool) -> None:
            settle(None, tag, multiple)

        def nack(tag: int, multiple: bool) -> None:
            settle(_nacked(), tag, multiple)

        events: Any = self.events
        events["basic_ack"].add(ack)
        events["basic_nack"].add(nack)
        try:
            while waiting:
                if self.connection is None:
                    raise _lost("The connection was closed.")  # noqa: TRY301  # those that are confirmed are
                self.connection.drain_events()
        except Exception as error:  # noqa: BLE001  # it concerns those that are not confirmed
            return [outcomes.get(tag, error) for tag in tags]
        finally:
            events["basic_ack"].discard(ack)
            events["basic_nack"].discard(nack)
        return [outcomes[tag] for tag in tags]


class _Connection(pyamqp.Connection):
    Channel = _BatchingChannel


@functools.cache
def batching(transport_class: Any) -> Any:
    """Return a transport whose channels can publish in batches.

    Args:
        transport_class: kombu's transport with py-amqp, with or without TLS.
    """
    return type(transport_class.__name__, (transport_class,), {"Connection": _Connection})
