"""`celery -A app pico queues`: how many messages wait, how many are with workers, and since when the oldest waits."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import click
from amqp.exceptions import NotFound
from celery import Celery
from celery.bin.base import CeleryCommand, CLIContext

from pico_celery_core.errors import NoDeadLettersError
from pico_celery_core.publishing_time import published_at
from pico_celery_worker.cli import rendering
from pico_celery_worker.cli.context import inspected, style
from pico_celery_worker.cli.inspection import queues_of
from pico_celery_worker.dead_letters.store import connected

_UNKNOWN = "unknown"
_NOTES = {
    "redis": "A message tells its age if pico-celery has sent it. Redis does not know who reads a queue.",
    "amqp": "RabbitMQ tells by AMQP neither what is unacknowledged nor how old a message is: see its management page.",
}


@dataclass(frozen=True, slots=True)
class QueueState:
    """What the broker says of a queue; None for what it does not say.

    Args:
        name: The queue's name.
        depth: How many messages wait.
        unacknowledged: How many workers have and have not acknowledged: they run, or wait there, as for their time.
        oldest: For how long the oldest waiting message has waited, in seconds.
        consumers: How many workers read it.
    """

    name: str
    depth: int | None
    unacknowledged: int | None
    oldest: float | None
    consumers: int | None


@click.command("queues", cls=CeleryCommand)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def queues_command(context: CLIContext, as_json: bool) -> None:
    """List the queues with what waits in them. It asks the broker, and takes no message."""
    inspection = inspected(context.app)
    driver = inspection.app.connection_for_read().get_transport_cls().driver_type
    try:
        states = list(states_of(inspection.app, queues_of(inspection)))
    except NoDeadLettersError as error:
        broker = inspection.app.connection_for_read().as_uri()
        raise click.ClickException(f"Of {broker} nothing is known: only of Redis and RabbitMQ.") from error
    except inspection.app.connection_for_read().connection_errors as error:
        broker = inspection.app.connection_for_read().as_uri()
        raise click.ClickException(f"{broker} cannot be reached: {error}") from error
    if as_json:
        click.echo(json.dumps({"queues": [asdict(state) for state in states]}, indent=2))
        return
    head = ("queue", "depth", "unacknowledged", "oldest", "consumers")
    rows = [
        (
            state.name,
            _number(state.depth),
            _number(state.unacknowledged),
            _age(state, is_told=driver == "redis"),
            _number(state.consumers),
        )
        for state in states
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    bold = style(context)
    for number, row in enumerate((head, *rows)):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        context.echo(bold("  ".join(cells), bold=True) if number == 0 else "  ".join(cells))
    context.echo(f"\n{rendering.count(len(states), 'queue')}. {_NOTES[driver]}")


def states_of(app: Celery, queues: Iterable[str]) -> Iterator[QueueState]:
    """Ask an app's broker for its queues, without taking a message.

    Args:
        app: The app.
        queues: The names of the queues.

    Raises:
        NoDeadLettersError: If the broker is neither Redis nor RabbitMQ.
    """
    driver = app.connection_for_read().get_transport_cls().driver_type
    if driver not in _NOTES:
        raise NoDeadLettersError(app.connection_for_read().as_uri())
    with connected(app, reads=True) as connection:
        if driver == "redis":
            yield from _of_redis(connection.default_channel, queues)
        else:
            for queue in queues:
                yield _of_rabbitmq(connection, queue)


def _of_redis(channel: Any, queues: Iterable[str]) -> Iterator[QueueState]:
    client, prefix = channel.client, channel.global_keyprefix
    unacknowledged: Counter[str] = Counter()
    # kombu's client puts the prefix before the keys of some commands, and not of this one.
    for _, item in client.hscan_iter(prefix + channel.unacked_key, count=200):
        try:
            unacknowledged[json.loads(item)[2]] += 1
        except (ValueError, LookupError, TypeError):
            continue  # kombu could not restore it either
    now = time.time()
    for queue in queues:
        keys = [f"{queue}{channel.sep}{step}" if step else queue for step in channel.priority_steps]
        depth = sum(client.llen(key) for key in keys)
        ages = []
        for key in keys:
            for item in client.lrange(prefix + key, -1, -1):  # workers take from this end
                published = _published(item)
                ages += [] if published is None else [max(now - published, 0)]
        yield QueueState(queue, depth, unacknowledged[queue], round(max(ages), 3) if ages else None, None)


def _published(item: bytes) -> float | None:
    try:
        message = json.loads(item)
        return published_at(message["headers"], message["properties"])
    except (ValueError, LookupError, TypeError, AttributeError):
        return None  # it is no message of a task


def _of_rabbitmq(connection: Any, queue: str) -> QueueState:
    # RabbitMQ closes the channel on which one asks for a queue that is not there.
    with connection.channel() as channel:
        try:
            declared = channel.queue_declare(queue, passive=True)
        except NotFound:
            return QueueState(queue, 0, 0, None, 0)
        return QueueState(queue, declared.message_count, None, None, declared.consumer_count)


def _number(value: int | None) -> str:
    return _UNKNOWN if value is None else str(value)


def _age(state: QueueState, *, is_told: bool) -> str:
    if state.oldest is not None:
        return f"{state.oldest:.1f} s"
    return "-" if state.depth == 0 and is_told else _UNKNOWN
