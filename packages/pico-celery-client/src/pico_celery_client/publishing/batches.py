"""Group commit for those who publish on one event loop: what they send at the same time shares a batch.

While one batch is on its way in a thread, further messages wait, and all of them are the next batch. So a batch is as
large as the load makes it: where one message comes at a time, it is sent at once and alone.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any, Final
from weakref import WeakKeyDictionary

from kombu.exceptions import EncodeError, OperationalError

from pico_celery_client.publishing.message import AwaitedMessage, Message
from pico_celery_client.publishing.producers import Publication, producer_of

# How many messages, and how many bytes, a batch has at most: Redis does nothing else while it takes one.
MOST_MESSAGES: Final = 100
MOST_BYTES: Final = 2**20

# After how long the next batch no longer waits for one that is on its way, in seconds: its connection may be dead.
PATIENCE: Final = 0.25

# After so many messages in a row have failed by themselves, the fault is taken for the broker's.
FAILURES: Final = 2


class LoopBatches:
    """What waits to be sent on one event loop. It is to be used on that loop alone.

    Args:
        threads: Sends the batches.
        most: How many batches may be on their way at once, where they take long.
    """

    def __init__(self, threads: Executor, most: int) -> None:
        self._threads = threads
        self._most = most
        self._waiting: deque[AwaitedMessage] = deque()
        self._is_due = False
        self._sending = 0
        self._late = 0

    def add(self, message: AwaitedMessage) -> None:
        """Have a message sent with the next batch.

        Args:
            message: The message.
        """
        self._waiting.append(message)
        if not self._is_due and self._may_begin():
            # Whose turn comes in the same round of the loop shares the batch.
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _may_begin(self) -> bool:
        return self._sending == self._late < self._most

    def _begin(self) -> None:
        self._is_due = False
        messages: list[AwaitedMessage] = []
        while self._waiting and len(messages) < MOST_MESSAGES and self._may_begin():
            message = self._waiting.popleft()
            if message.awaited:
                messages.append(message)
        if not messages:
            return
        loop = asyncio.get_running_loop()
        batch = _Batch(messages, loop, self)
        self._sending += 1
        batch.timer = loop.call_later(PATIENCE, self._pass_by, batch)
        self._threads.submit(batch.run)

    def _pass_by(self, batch: "_Batch") -> None:
        batch.is_late = True
        self._late += 1
        self._begin()

    def end(self, batch: "_Batch") -> None:
        """Tell those who wait for a batch, and begin the next one."""
        batch.timer.cancel()
        self._sending -= 1
        self._late -= batch.is_late
        for message in batch.messages:
            message.finish()
        if not self._is_due:
            self._begin()


class AppBatches:
    """The batches of all event loops that send with one app.

    Args:
        threads: Sends the batches.
        most: How many batches of one loop may be on their way at once, where they take long.
    """

    def __init__(self, threads: Executor, most: int) -> None:
        self._threads = threads
        self._most = most
        self._of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, LoopBatches] = WeakKeyDictionary()

    def here(self) -> LoopBatches:
        """Return those of the running event loop."""
        loop = asyncio.get_running_loop()
        batches = self._of_loops.get(loop)
        if batches is None:
            batches = self._of_loops.setdefault(loop, LoopBatches(self._threads, self._most))
        return batches


class _Batch:
    timer: asyncio.TimerHandle

    def __init__(
        self, messages: Sequence[AwaitedMessage], loop: asyncio.AbstractEventLoop, batches: LoopBatches
    ) -> None:
        self.messages = messages
        self.is_late = False
        self._loop = loop
        self._batches = batches

    def run(self) -> None:
        """Send it; in a thread."""
        try:
            with producer_of(self.messages[0].app) as producer:
                send_together(producer, self.messages)
        except Exception as error:  # noqa: BLE001  # those who wait are to hear of it, whatever it is
            for message in self.messages:
                if message.is_pending:
                    message.fail(error)
        finally:
            with suppress(RuntimeError):  # the loop is closed, and nobody waits
                self._loop.call_soon_threadsafe(self._batches.end, self)


def send_together(producer: Any, messages: Sequence[Message]) -> None:
    """Send messages in one go; what fails so is sent by itself, as if there were nothing else.

    Args:
        producer: What to publish them with.
        messages: The messages. Each is told what has become of it.
    """
    for message in messages:
        message.prepare(producer)
    if not producer.connection.connected:
        # The first message connects, with its retries: kombu would go on for minutes without those of a message.
        _publish_one_by_one(producer, [message for message in messages if _is_left(message)][:1])
    if producer.connection.connected:
        try:
            _publish_together(producer, [message for message in messages if _is_left(message)])
        except Exception as error:  # noqa: BLE001  # each is tried by itself now, and says so then
            _note(messages, error)
    _publish_one_by_one(producer, [message for message in messages if _is_left(message)])


def _is_left(message: Message) -> bool:
    return message.is_pending and bool(message.publications)


def _note(messages: Sequence[Message], error: Exception) -> None:
    for message in messages:
        if _is_left(message):
            message.problem = error


def _publish_together(producer: Any, messages: Sequence[Message]) -> None:
    """Publish what can be published in one go. What is not published stays with its message."""
    if not messages:
        return
    declared = [message for message in messages if _declare(producer, message)]
    with producer.channel.collecting() as batch:
        collected: list[tuple[Message, Publication]] = []
        for message in declared:
            _collect(producer, message, collected)
            if batch.size >= MOST_BYTES:
                _settle(batch.send(), collected)
        if collected:
            _settle(batch.send(), collected)


def _declare(producer: Any, message: Message) -> bool:
    """Declare the queues of a message, and tell whether that was possible."""
    try:
        for _, options in message.publications:
            for entity in options.get("declare") or ():
                producer.maybe_declare(entity)
    except Exception as error:  # noqa: BLE001  # it is tried again with its message alone
        message.problem = error
        return False
    return True


def _collect(producer: Any, message: Message, collected: list[tuple[Message, Publication]]) -> None:
    try:
        for publication in message.publications:
            body, options = publication
            producer.publish(body, **{**options, "retry": False, "declare": None})
            collected.append((message, publication))
    except EncodeError as error:
        message.fail(error)
    except Exception as error:  # noqa: BLE001  # it is tried again with its message alone
        message.problem = error


def _settle(outcomes: Sequence[Exception | None], collected: list[tuple[Message, Publication]]) -> None:
    for (message, publication), error in zip(collected, outcomes, strict=True):
        if error is None:
            message.publications.remove(publication)
        else:
            message.problem = error
    collected.clear()


def _publish_one_by_one(producer: Any, messages: Sequence[Message]) -> None:
    failures = 0
    error: Exception = OperationalError()
    for message in messages:
        if not message.awaited:
            continue
        if failures >= FAILURES:
            message.fail(error)
            continue
        try:
            message.publish(producer)
        except OperationalError as problem:
            error = problem
            failures += 1
            message.fail(problem)
        except Exception as problem:  # noqa: BLE001  # its sender's
            message.fail(problem)
        else:
            failures = 0
