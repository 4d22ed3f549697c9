"""Checks of Celery's settings, each for the pool that the workers have. Read in Celery 5.7.0 and its documentation."""

from collections.abc import Iterator
from typing import Any, Final

from pico_celery_core.app import APP_NAME
from pico_celery_core.backends import keeps_results_in_redis
from pico_celery_core.configuration import unread_settings
from pico_celery_worker.cli.checks.finding import Finding, Severity
from pico_celery_worker.cli.inspection import Inspection
from pico_celery_worker.pools import GREENLET_POOLS
from pico_celery_worker.tasks.task import AsyncTask

POOLS: Final = ("gevent", "eventlet", "threads", "prefork", "solo")

_CONCURRENT: Final = GREENLET_POOLS | {"threads"}
_PICKLE: Final = {"pickle", "application/x-python-serialize"}


def expected_pool(conf: Any) -> str:
    """Return the pool that workers have by default: the one that is configured, else gevent."""
    configured = str(conf.worker_pool)
    return configured if conf.value_set_for("worker_pool") and configured in POOLS else "gevent"


def check(inspection: Inspection, pool: str) -> Iterator[Finding]:
    """Look at the settings of the app and of its tasks."""
    conf = inspection.app.conf
    if inspection.app.main == APP_NAME:  # one that the application has made may have its settings from anywhere
        yield from _unread(inspection)
    yield from _pool(conf, pool)
    yield from _transports(conf)
    yield from _result_backend(conf, pool)
    yield from _consumption(conf)
    for _, task in sorted(inspection.app.tasks.items()):
        if not task.name.startswith("celery."):
            yield from _time_limits(task, pool)


def check_choices(inspection: Inspection) -> Iterator[Finding]:
    """Look at what a worker chooses by itself, where neither its command line nor the settings do."""
    conf = inspection.app.conf
    if not inspection.handlers:
        return
    if not conf.value_set_for("worker_pool"):
        yield Finding(
            "pool-unset",
            Severity.INFO,
            "worker_pool",
            "A worker that is started without -P has the prefork pool, which runs one task at a time in a process.",
            "Start workers with -P gevent, and say so here with --pool gevent.",
        )
    if expected_pool(conf) in _CONCURRENT and not conf.value_set_for("worker_concurrency"):
        yield Finding(
            "concurrency-unset",
            Severity.INFO,
            "worker_concurrency",
            "A worker that is started without -c runs as many tasks at once as the machine has cores.",
            "Set it to the number of tasks in flight, such as 1000 under gevent, or start workers with -c.",
        )


def _warning(code: str, where: str, problem: str, hint: str) -> Finding:
    return Finding(code, Severity.WARNING, where, problem, hint)


def _unread(inspection: Inspection) -> Iterator[Finding]:
    for unread in unread_settings(inspection.container):
        yield _warning("unread-setting", unread.name, unread.problem, unread.hint)


def _pool(conf: Any, pool: str) -> Iterator[Finding]:
    configured = str(conf.worker_pool)
    if any(name in configured for name in GREENLET_POOLS):
        yield Finding(
            "pool",
            Severity.ERROR,
            "worker_pool",
            f"A worker that takes {configured!r} from its settings patches the standard library too late.",
            f"Remove the setting, and start the worker with -P {configured}.",
        )
    for name in ("worker_max_tasks_per_child", "worker_max_memory_per_child"):
        if pool != "prefork" and conf[name]:
            yield _warning("no-effect", name, f"The {pool} pool has no child processes to replace.", "Remove it.")


def _transports(conf: Any) -> Iterator[Finding]:
    broker = str(conf.broker_read_url or "")
    if broker.startswith("memory:"):
        problem = "A broker in memory has only messages that the worker's own process sends."
        yield _warning("memory", "broker_url", problem, "Name a broker that other processes reach; keep it for tests.")
    if str(conf.result_backend or "").startswith("cache+memory:"):
        problem = "Results in memory are seen only by the worker's own process."
        yield _warning("memory", "result_backend", problem, "Name a backend that other processes reach.")
    for name in ("accept_content", "result_accept_content"):
        if _PICKLE & set(conf[name] or ()):
            problem = "Whoever can write to the broker or the result backend can run any code here: pickle is accepted."
            yield _warning("pickle", name, problem, "Accept json only, or sign the messages.")


def _result_backend(conf: Any, pool: str) -> Iterator[Finding]:
    unshared = conf.value_set_for("result_backend_thread_safe") and not conf.result_backend_thread_safe
    if pool in GREENLET_POOLS and keeps_results_in_redis(conf) and unshared:
        yield _warning(
            "connections",
            "result_backend_thread_safe",
            "Set to False, it makes each task open connections of its own to the result backend.",
            "Remove it: the worker shares one backend among all its tasks.",
        )


def _consumption(conf: Any) -> Iterator[Finding]:
    if conf.worker_prefetch_multiplier == 0:
        yield _warning(
            "prefetch",
            "worker_prefetch_multiplier",
            "With 0 the worker fetches every message there is: others get none, and memory grows with the queue.",
            "Set it to 1 or more.",
        )
    if conf.task_always_eager:
        problem = "Stubs send their tasks all the same: Celery's send_task knows no eager mode."
        yield _warning("eager", "task_always_eager", problem, "Remove it.")


def _time_limits(task: Any, pool: str) -> Iterator[Finding]:
    soft, hard = task.soft_time_limit, task.time_limit
    if soft and hard and soft >= hard:
        problem = f"Its soft time limit of {soft} s never comes: the hard one of {hard} s comes first."
        yield _warning("time-limit", f"task {task.name}", problem, "Make the soft limit the shorter one.")
    if isinstance(task, AsyncTask):
        return
    # Celery's own tasks get from the pool what the pool has.
    if soft and pool != "prefork":
        problem = f"It is no async handler, and the {pool} pool has no soft time limits: {soft} s is ignored."
        yield _warning("time-limit", f"task {task.name}", problem, "Make it an async handler, or use prefork.")
    if hard and pool not in ("prefork", "gevent"):
        problem = f"It is no async handler, and the {pool} pool has no time limits: {hard} s is ignored."
        yield _warning("time-limit", f"task {task.name}", problem, "Make it an async handler, or use prefork.")
