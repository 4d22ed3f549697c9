"""What a worker does with a message before it gives it up: it keeps it as a dead letter."""

import logging
import threading
from typing import Any, Final
from weakref import WeakKeyDictionary

from celery import Celery

from pico_celery_worker.dead_letters.letter import DeadLetter, Reason
from pico_celery_worker.dead_letters.options import Options
from pico_celery_worker.dead_letters.store import connected, keeps_letters, store_of
from pico_celery_worker.loop.log_fields import log_fields

logger = logging.getLogger(__name__)

_keepers: Final[WeakKeyDictionary[Celery, "_Keeper"]] = WeakKeyDictionary()
_making: Final = threading.Lock()

kept: Final[dict[str, int]] = dict.fromkeys(map(str, Reason), 0)
"""How many messages this process has kept, by reason."""


def keep(app: Celery, message: Any, error: BaseException, reason: Reason, traceback: str = "") -> bool:
    """Keep a message that is about to be given up, where the settings say so.

    Args:
        app: The worker's app.
        message: The message.
        error: Why it cannot be run.
        reason: Why it is given up.
        traceback: The traceback, where the error itself has none.

    Returns:
        Whether it may be given up now. Otherwise it should have been kept and could not be, which has been logged: it
        is to stay with the broker.
    """
    with _making:
        keeper = _keepers.get(app)
        if keeper is None:
            keeper = _keepers[app] = _Keeper(app)
    return keeper.keep(app, message, error, reason, traceback)


def forget_connections() -> None:
    """Close the connections by which letters were kept, and read the settings again with the next one."""
    for keeper in tuple(_keepers.values()):
        keeper.disconnect()
    _keepers.clear()


class _Keeper:
    """Keeps dead letters, by one connection for as long as that lasts.

    Args:
        app: The worker's app.
    """

    def __init__(self, app: Celery) -> None:
        self._options = Options.of(app)
        self._broker_keeps = keeps_letters(app)
        self._broker = app.connection_for_write().as_uri()
        self._connection: Any = None
        self._lock = threading.Lock()

    def keep(self, app: Celery, message: Any, error: BaseException, reason: Reason, traceback: str) -> bool:
        """Keep a message, where it is to be kept; tell whether it may be given up."""
        wanted = self._options.keeps_failures if reason is Reason.FAILURE else self._options.keeps
        if not wanted:
            return True
        if not self._broker_keeps:
            logger.warning("A message is lost: dead letters are kept in Redis and RabbitMQ, not in %s", self._broker)
            return True
        try:
            letter = DeadLetter.of(message, error, reason, traceback)
            self._put(app, letter)
        except Exception as failure:  # noqa: BLE001  # the message is not given up, whatever it is
            headers = message.headers if isinstance(message.headers, dict) else {}
            name, task_id = headers.get("task"), headers.get("id")
            logger.critical(
                "The message of task %s[%s] (%s) could not be kept as a dead letter: %r. If it is not acknowledged "
                "already, it stays with the broker, and a worker will try again after this one has stopped.",
                *(name, task_id, reason, failure),
                extra=log_fields("dead-letter-not-kept", name, task_id),
            )
            return False
        kept[reason] += 1
        logger.warning(
            "The message of task %s[%s] is kept as dead letter %s: %s",
            *(letter.task, letter.task_id, letter.id, reason),
            extra=log_fields("dead-letter-kept", letter.task, letter.task_id),
        )
        return True

    def _put(self, app: Celery, letter: DeadLetter) -> None:
        with self._lock:
            if self._connection is not None:
                try:
                    store_of(app, self._connection).put(letter)
                except Exception:  # noqa: BLE001  # the broker closes what is silent for long
                    self.disconnect()
                else:
                    return
            self._connection = connected(app)
            try:
                store_of(app, self._connection).put(letter)
            except BaseException:
                self.disconnect()
                raise

    def disconnect(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.collect()
