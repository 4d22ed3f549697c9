"""The runner of the event loop: one a process, made when the first task needs it."""

import os
import sys
import threading
from typing import Any

from pico_celery_worker.loop.base import LoopRunner

__all__ = ["LoopRunner", "close_runner", "current_runner", "runner_class"]

_runner: LoopRunner | None = None
_pid: int | None = None
_lock = threading.Lock()


def current_runner() -> LoopRunner:
    """Return this process's runner. A forked child makes its own: its parent's loop does not run there."""
    global _runner, _pid  # one loop a process is what this module is for
    runner = _runner
    if runner is None or _pid != os.getpid():
        with _lock:
            runner = _runner
            if runner is None or _pid != os.getpid():
                runner, _pid = runner_class()(), os.getpid()
                _runner = runner
    return runner


def close_runner() -> None:
    """Close this process's runner, if it has one."""
    global _runner
    with _lock:
        runner, _runner = _runner, None
    if runner is not None and _pid == os.getpid():
        runner.close()


def runner_class() -> Any:
    """Return the kind of runner that fits how this process was patched."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        from pico_celery_worker.loop.gevent import GeventRunner

        return GeventRunner
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is not None and patcher.is_monkey_patched("thread"):
        from pico_celery_worker.loop.eventlet import EventletRunner

        return EventletRunner
    from pico_celery_worker.loop.thread import ThreadRunner

    return ThreadRunner
