"""Where dead letters are kept: in the broker, so that they need nothing that is not there."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Protocol

from celery import Celery

from pico_celery_core.errors import NoDeadLettersError
from pico_celery_worker.dead_letters.amqp import AmqpStore
from pico_celery_worker.dead_letters.letter import DeadLetter
from pico_celery_worker.dead_letters.options import Options
from pico_celery_worker.dead_letters.redis import RedisStore
from pico_celery_worker.transports import with_reliable_transport


class Store(Protocol):
    """What a broker keeps of dead letters, seen by one connection."""

    def put(self, letter: DeadLetter) -> None:
        """Keep a letter. Once this has returned, the broker has it."""

    def visit(self, take: Callable[[DeadLetter], bool]) -> None:
        """Show each letter, the oldest first, and remove those for which `take` returns True."""

    def count(self) -> int:
        """Return how many letters there are."""
        ...


def keeps_letters(app: Celery) -> bool:
    """Tell whether dead letters can be kept in an app's broker."""
    return _driver(app.connection_for_write()) in ("redis", "amqp")


def connected(app: Celery, *, reads: bool = False) -> Any:
    """Return a new connection to an app's broker, by which each message that is sent is confirmed.

    Args:
        app: The app.
        reads: Whether it is the broker from which workers read, where that is another.
    """
    connect = app.connection_for_read if reads else app.connection_for_write
    connection: Any = with_reliable_transport(connect(transport_options={"confirm_publish": True}))
    connection.connect()
    return connection


def store_of(app: Celery, connection: Any) -> Store:
    """Return the store in an app's broker.

    Args:
        app: Whose settings hold.
        connection: A connection that `connected` has made.

    Raises:
        NoDeadLettersError: If dead letters cannot be kept in this broker.
    """
    options, driver = Options.of(app), _driver(connection)
    if driver == "redis":
        return RedisStore(connection.default_channel, options)
    if driver == "amqp":
        return AmqpStore(connection, options)
    raise NoDeadLettersError(connection.as_uri())


@contextmanager
def opened(app: Celery) -> Generator[tuple[Any, Store]]:
    """Lend a connection to an app's broker, and the store there."""
    if not keeps_letters(app):
        raise NoDeadLettersError(app.connection_for_write().as_uri())
    with connected(app) as connection:
        yield connection, store_of(app, connection)


def _driver(connection: Any) -> str:
    driver: str = connection.get_transport_cls().driver_type
    return driver
