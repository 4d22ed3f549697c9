"""What the connections of a worker that runs many tasks at once have to put up with, unless the user says otherwise."""

import time
from typing import Any, Final

from kombu.utils import functional

from pico_celery_core.backends import keeps_results_in_redis

# What redis-py means by no limit. Its own limit is 100 connections, and that of kombu 10: a task that ends when so many
# are in use is refused one, and loses its result or its acknowledgement.
_UNLIMITED: Final = 2**31

# Without a limit, a network that drops what is sent holds up the worker until the system gives up, which takes a
# quarter of an hour; and a worker whose answer was read by the handler of a signal waits for ever. A worker waits one
# second at a time for messages.
#
# A worker that dies, or is cut off, while it gives out what others have left leaves a lock behind that keeps the others
# from that, by kombu's default for five minutes. Two that do so at once do no harm: each message is moved in one step.
_BROKER: Final = {
    "socket_timeout": 30.0,
    "socket_connect_timeout": 10.0,
    "socket_keepalive": True,
    "max_connections": _UNLIMITED,
    "unacked_mutex_expire": 10,
}

_DATABASE_SCHEMES: Final = ("db", "database")


def prepare_broker(app: Any) -> None:
    """Limit how long a worker waits for Redis as its broker, and not by how many connections."""
    if app.connection_for_read().transport.driver_type == "redis":
        app.conf.broker_transport_options = {**_BROKER, **(app.conf.broker_transport_options or {})}


def use_patched_sleep_in_kombu() -> None:
    """Let a worker that waits to try to connect again wait as gevent does.

    `celery -P gevent` has gevent patch Python before anything else is loaded. But gevent 26.9 looks at all objects, and
    where it looks at one of Celery 5.7's own proxies (celery.log and others), that loads kombu, halfway through. kombu
    keeps the `sleep` that stops the whole process, for 2, 4, 6 seconds and more as long as the broker is away.
    """
    module: Any = functional
    module.sleep = time.sleep


def prepare_result_backend(conf: Any) -> None:
    """Let all tasks of a process share one result backend, where the backend can, and let them wait for it.

    Celery keeps one backend a thread. A greenlet counts as a thread, so each task would open a connection of its own,
    and with SQLAlchemy look for its tables first.
    """
    scheme = str(conf.result_backend or "").partition(":")[0]
    is_redis = keeps_results_in_redis(conf)
    if is_redis:
        set_default(conf, "result_backend_always_retry", True)
        set_default(conf, "redis_max_connections", _UNLIMITED)
        set_default(conf, "redis_socket_timeout", _BROKER["socket_timeout"])
        set_default(conf, "redis_socket_connect_timeout", _BROKER["socket_connect_timeout"])
    if is_redis or scheme.partition("+")[0] in _DATABASE_SCHEMES:
        set_default(conf, "result_backend_thread_safe", True)


def set_default(conf: Any, name: str, value: Any) -> None:
    """Change one of Celery's settings, unless the user has said something else."""
    if not conf.value_set_for(name):
        setattr(conf, name, value)
