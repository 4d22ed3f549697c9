"""What happens to a container when its worker starts and stops."""

import asyncio
import logging
from typing import Any, Final

from celery import Celery, bootsteps, signals
from celery.concurrency import get_implementation
from celery.exceptions import ImproperlyConfigured
from celery.utils.imports import symbol_by_name

from pico_celery_core.http_endpoint import HttpEndpoint
from pico_celery_core.message_size import limit_decompression, max_message_size
from pico_celery_core.timeouts import Timeouts
from pico_celery_worker.consumer.defaults import (
    prepare_broker,
    prepare_result_backend,
    use_patched_sleep_in_kombu,
)
from pico_celery_worker.consumer.descriptors import fit
from pico_celery_worker.consumer.results import outlast_refusals
from pico_celery_worker.container.shutdown import close
from pico_celery_worker.lifecycle.blocked import BlockedExit
from pico_celery_worker.lifecycle.os_signals import SignalHandlers
from pico_celery_worker.lifecycle.startup import has_plain_tasks, refuse_options, refuse_to_start, warn_of_oversights
from pico_celery_worker.loop import close_runner, current_runner
from pico_celery_worker.observability.log_filter import format_in_one_line
from pico_celery_worker.observability.server import WorkerServer
from pico_celery_worker.pools import GREENLET_POOLS, pool_name
from pico_celery_worker.tasks.runtime import Runtime, runtime_of, set_runtime

logger = logging.getLogger(__name__)

_GEVENT: Final = "gevent"
_PREFORK: Final = "prefork"
_SOLO: Final = "solo"
_THREADS: Final = "thread"

# Our own pools, by the modules of Celery's.
POOLS: Final = {
    "celery.concurrency.gevent": "pico_celery_worker.pools.gevent:TaskPool",
    "celery.concurrency.eventlet": "pico_celery_worker.pools.eventlet:TaskPool",
    "celery.concurrency.solo": "pico_celery_worker.pools.solo:TaskPool",
    "celery.concurrency.thread": "pico_celery_worker.pools.threads:TaskPool",
}

# Celery's consumer binds `build_tracer` when it is imported. Whatever observes tasks by replacing that, as Sentry does,
# has until the worker's steps are made to do so: nothing that is imported before may import the consumer.
_DERIVE_CONSUMER: Final = "pico_celery_worker.consumer.consumer:derive_consumer"


class WorkerStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """Holds a container for as long as the worker runs: started before the pool, stopped after it."""

    # Which says by then how many tasks there are to be at a time, and makes no room for them yet.
    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        runtime = runtime_of(parent.app)
        assert runtime is not None  # noqa: S101  # `attach` has given the app both
        self._runtime = runtime
        refuse_to_start(runtime)
        self._pool = pool_name(parent.pool_cls)
        self._app: Celery = parent.app
        self._timeouts = Timeouts.of(self._app)
        if self._pool != _SOLO:
            fit(parent, has_processes=self._pool == _PREFORK)
        if self._pool in {*GREENLET_POOLS, _THREADS}:
            prepare_result_backend(self._app.conf)
        outlast_refusals(self._app)
        limit_decompression(max_message_size(self._app.conf))
        self._blocked_exit: BlockedExit | None = None
        self._server = self._make_server(parent)
        derive_consumer: Any = symbol_by_name(_DERIVE_CONSUMER)
        parent.consumer_cls = derive_consumer(symbol_by_name(parent.consumer_cls), self._pool in GREENLET_POOLS)

    def _make_server(self, parent: Any) -> WorkerServer | None:
        endpoint = HttpEndpoint.read(self._app.conf)
        if not endpoint.port:
            return None
        if self._pool == _PREFORK:
            logger.warning(
                "Nothing is served on pico_http_port %d: with the prefork pool each of several processes has an event "
                "loop, and one port cannot tell of all. Did you mean -P gevent?",
                endpoint.port,
            )
            return None
        return WorkerServer(parent, self._runtime.container, endpoint)

    def include(self, parent: Any) -> bool:
        """Take the first place, so that everything that uses the container stops before it."""
        parent.steps.insert(0, self)
        return True

    def start(self, parent: Any) -> None:
        """Make the loop and what has to be awaited, before the first task; in a prefork worker, each child does."""
        check_autoscale(parent)
        refuse_options(self._pool)
        # prefork sees to both limits itself: a second soft one would strike after the task, while its result is stored.
        # gevent sees to the hard one, the others to none.
        self._runtime.enforce_limits(soft=self._pool != _PREFORK, hard=self._pool not in (_GEVENT, _PREFORK))
        warn_of_oversights(parent, self._pool, self._runtime)
        for executor in self._runtime.executors:
            # Compiled here: else the first message holds up the loop with it, and each process of prefork does it.
            _ = self._app.tasks[executor.handler.spec.name].values
        if self._pool == _PREFORK:
            signals.worker_process_init.connect(self._open, weak=False)
            signals.worker_process_shutdown.connect(self._close, weak=False)
        else:
            self._open()
            self._end_if_blocked()
        if self._pool in GREENLET_POOLS:
            SignalHandlers(self._pool).defer()

    def stop(self, parent: Any) -> None:  # noqa: ARG002
        """Close the container on the loop that its components live on, then the loop."""
        signals.worker_process_init.disconnect(self._open)
        signals.worker_process_shutdown.disconnect(self._close)
        self._close()

    terminate = stop

    def info(self, obj: Any) -> Any:  # noqa: ARG002
        """Tell `celery inspect stats` how the loop does; times in seconds."""
        if self._pool == _PREFORK:
            return {}  # the loops are in the children, and making one here would let them inherit it
        runner = current_runner()
        lag = {"last": runner.lag.last, "worst": runner.lag.worst} if runner.lag is not None else None
        return {"pico_celery": {"asyncio_tasks": len(asyncio.all_tasks(runner.loop)), "loop_lag": lag}}

    def _open(self, **_: Any) -> None:
        runner = current_runner()
        longest = self._timeouts.loop_lag_warning
        if longest > 0:
            runner.watch(longest)
        try:
            if self._server is not None:
                self._server.start(runner)
            for executor in self._runtime.executors:
                runner.run(executor.plan.prepare())
        except Exception as error:
            if self._pool == _PREFORK:
                # If the child ended, the pool would put another in its place at once, with no more luck, and so on.
                logger.critical(
                    "Could not create the singletons that tasks depend on; retrying with each task: %s", error
                )
                return
            logger.critical("The worker cannot start: %s", error)
            self._close()
            raise
        if self._server is not None:
            self._server.health.has_singletons = True

    def _end_if_blocked(self) -> None:
        longest = self._timeouts.blocked
        if longest > 0:
            runner = current_runner()
            self._blocked_exit = BlockedExit(runner.native(), longest, runner.held_up_by)
            runner.keep_calling(self._blocked_exit.beat, 1)
            self._blocked_exit.start()

    def _close(self, **_: Any) -> None:
        if self._blocked_exit is not None:
            self._blocked_exit.stop()
        try:
            current_runner().run(close(self._runtime.container, self._timeouts.cleanup))
        except Exception:
            logger.exception("Closing the container failed")
        finally:
            if self._server is not None:
                self._server.stop(current_runner())
            close_runner()


def check_autoscale(worker: Any) -> None:
    """See that a worker's pool can change its size, before Celery would fail to have it do so with the first message.

    Args:
        worker: Celery's worker.

    Raises:
        ImproperlyConfigured: If it cannot.
    """
    if not worker.autoscale:
        return
    pool = pool_name(worker.pool_cls)
    # A pool of processes has both as soon as it has begun.
    if pool != _PREFORK and not (hasattr(worker.pool, "grow") and hasattr(worker.pool, "shrink")):
        problem = (
            f"--autoscale cannot be used with the {pool or type(worker.pool).__module__} pool, whose size is fixed. "
            "Start the worker without it, or with gevent, eventlet, threads or prefork, which can grow and shrink."
        )
        logger.critical("The worker cannot start: %s", problem)
        raise ImproperlyConfigured(problem)


def attach(app: Celery, runtime: Runtime) -> None:
    """Let the app's workers hold a container for as long as they run. A newer one of the app replaces an older."""
    set_runtime(app, runtime)
    steps: Any = app.steps
    steps["worker"].add(WorkerStep)
    signals.worker_init.connect(_choose_pool, dispatch_uid="pico-celery pool")
    format_in_one_line()
    signals.celeryd_after_setup.connect(_warn_of_another_app, dispatch_uid="pico-celery app")


def _choose_pool(sender: Any, **_: Any) -> None:
    """Put a pool of our own in the place of Celery's, in a worker that has tasks of ours."""
    if runtime_of(sender.app) is None:
        return
    pool_cls = get_implementation(sender.pool_cls)
    # One that somebody else has derived from Celery's is left as it is.
    if pool_cls.__module__ in POOLS:
        sender.pool_cls = get_implementation(POOLS[pool_cls.__module__])
    if pool_name(pool_cls) in GREENLET_POOLS:
        use_patched_sleep_in_kombu()
    prepare_broker(sender.app)


def _warn_of_another_app(instance: Any, **_: Any) -> None:
    """Say so where a worker with nothing to do has another app than the container."""
    if runtime_of(instance.app) is None and not has_plain_tasks(instance.app):
        logger.warning(
            "This worker has no tasks: its app %r is not the one of the container. "
            "Did you mean app = container.get(Celery), in the module that -A names?",
            instance.app.main,
        )
