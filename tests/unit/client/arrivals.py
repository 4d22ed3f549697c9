"""What has arrived at a broker."""

from typing import Any

from kombu import Connection


def arrived(url: str, queue: str = "celery") -> list[Any]:
    """Take the messages that were sent out of a queue."""
    messages: list[Any] = []
    with Connection(url) as connection, connection.SimpleQueue(queue) as simple:
        while True:
            try:
                messages.append(simple.get_nowait())
            except simple.Empty:
                return messages
            messages[-1].ack()


def numbers(messages: list[Any]) -> list[Any]:
    """Return the first argument of each message."""
    return [message.decode()[0][0] for message in messages]
