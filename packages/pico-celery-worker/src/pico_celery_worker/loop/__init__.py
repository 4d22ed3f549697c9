"""Who runs the event loop: one host a process, made when the first task needs it."""

import os
import sys
import threading
from typing import Any

from pico_celery_worker.loop.base import Host

__all__ = ["Host", "close_host", "current_host", "host_class"]

_host: Host | None = None
_pid: int | None = None
_lock = threading.Lock()


def current_host() -> Host:
    """Return this process's host. A forked child makes its own: its parent's loop does not run there."""
    global _host, _pid  # one loop a process is what this module is for
    host = _host
    if host is None or _pid != os.getpid():
        with _lock:
            host = _host
            if host is None or _pid != os.getpid():
                host, _pid = host_class()(), os.getpid()
                _host = host
    return host


def close_host() -> None:
    """Close this process's host, if it has one."""
    global _host
    with _lock:
        host, _host = _host, None
    if host is not None and _pid == os.getpid():
        host.close()


def host_class() -> Any:
    """Return the kind of host that fits how this process was patched."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        from pico_celery_worker.loop.gevent import GeventHost

        return GeventHost
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is not None and patcher.is_monkey_patched("thread"):
        from pico_celery_worker.loop.eventlet import EventletHost

        return EventletHost
    from pico_celery_worker.loop.thread import ThreadHost

    return ThreadHost
