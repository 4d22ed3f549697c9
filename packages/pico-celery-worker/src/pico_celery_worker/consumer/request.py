"""AsyncRequest: a received message of an async task."""

from collections.abc import Callable
from typing import Any

from billiard.exceptions import Terminated
from celery.exceptions import Ignore, Reject, Retry, TimeLimitExceeded, WorkerLostError
from celery.platforms import signals
from celery.worker import state
from celery.worker.request import TERM_SIGNAME, Request

from pico_celery_core.errors import HandlerArgumentsError
from pico_celery_core.timeouts import Timeouts
from pico_celery_worker.consumer.backends import compare_backends
from pico_celery_worker.consumer.unacked import unacked_messages
from pico_celery_worker.dead_letters.keeping import keep
from pico_celery_worker.dead_letters.letter import Reason
from pico_celery_worker.pools import in_cold_shutdown
from pico_celery_worker.pools.job import TerminatedLateError, raised
from pico_celery_worker.tasks.masking import ARGS, KWARGS, is_masked

# What ends an execution and not the task, or leaves no message to keep.
_NO_END = (Ignore, Reject, Retry, Terminated, MemoryError)


class AsyncRequest(Request):  # type: ignore[misc]  # Celery has no types
    """Celery's request, which keeps its message through a lost connection.

    Its revocation waits for the coroutine's clean-up where the pool lets it.

    When its message is settled:

    | the task | with `acks_late` | without |
    | --- | --- | --- |
    | was revoked, or has expired | acknowledged, and does not begin | the same |
    | begins | | acknowledged |
    | succeeds, or retries | acknowledged once the result or the retry is stored | |
    | fails, or reaches a time limit | the same; rejected if `acks_on_failure_or_timeout` is off | |
    | raises `Ignore` | acknowledged | |
    | raises `Reject` | rejected, into its queue if it says so | |
    | waits for a slot or its eta when the worker stops | requeued | requeued |
    | runs at a warm shutdown | finishes first | finishes first |
    | runs at a cold shutdown | requeued | ends as `REVOKED` |
    | runs when its worker is killed | redelivered | is lost |

    Messages that never become a request are rejected in `validation.py`; a redelivered message of a task that this
    worker runs, or has ended, is settled in `unacked.py`.
    """

    _content_type: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._signal = signals.signum(TERM_SIGNAME)
        if self._content_type and unacked_messages.is_enabled:
            # A greenlet of this process runs the task: it need not decode the message again.
            self._body, self._content_type, self._content_encoding = self._message.payload, None, None
        if not self.ignore_result:
            app: Any = self.app
            compare_backends(app, self.name, self.request_dict)
        mask = getattr(self.task, "mask", None)
        if mask:
            self.request_dict.update(mask.over(self.request_dict, self.args, self.kwargs))
            # Celery 5.7 has setters for neither.
            self._argsrepr, self._kwargsrepr = self.request_dict[ARGS], self.request_dict[KWARGS]

    has_ended = False
    """Whether the task has failed, or was rejected: of one that has succeeded Celery knows itself."""

    _cancelled_by: Any = None

    def cancel_when_accepted(self, pool: Any) -> None:
        """Cancel the task as soon as it is known to have begun.

        Args:
            pool: The worker's pool.
        """
        self._cancelled_by = pool

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """Note that the task has begun, and cancel it if the worker has begun a cold shutdown before that was known."""
        super().on_accepted(pid, time_accepted)
        if self._cancelled_by is not None:
            self.cancel(self._cancelled_by, emit_retry=not self.task.acks_late)

    def rebind(self, message: Any, ack: Callable[..., Any], reject: Callable[..., Any]) -> None:
        """Take another delivery of the same message for this one.

        Args:
            message: The message.
            ack: Acknowledges it.
            reject: Rejects it.
        """
        # Celery 5.7 has setters for neither. tests/unit/worker/consumer/test_request.py holds it to these names.
        self._message, self._on_ack, self._on_reject = message, ack, reject

    def acknowledge(self) -> None:
        """Acknowledge the message; as soon as there is a connection, if there is none."""
        unacked_messages.settle(self, None, super().acknowledge)

    def reject(self, requeue: bool = False) -> None:
        """Reject the message; as soon as there is a connection, if there is none.

        Args:
            requeue: Whether it is to be delivered again.
        """
        unacked_messages.settle(self, requeue, lambda: super(AsyncRequest, self).reject(requeue))

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
        """Give back the message of a task that began too late to be cancelled with the others, and was killed.

        Keep that of one that has failed for good as a dead letter, before it is acknowledged.
        """
        error = raised(exc_info)
        self.has_ended = not isinstance(error, (Terminated, Retry))
        if isinstance(error, TerminatedLateError):
            state.successful_requests.add(self.id)  # so that nobody is told that it did not run to its end
        if isinstance(error, Terminated) and in_cold_shutdown() and not self.acknowledged:
            self._already_cancelled = True
        else:
            self._keep(error, str(exc_info.traceback))
        super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """Keep the message of a task whose process was killed at its time limit, where that is its end."""
        if not soft:
            self._keep(TimeLimitExceeded(timeout), "")
        super().on_timeout(soft, timeout)

    def _keep(self, error: BaseException, traceback: str) -> None:
        if isinstance(error, HandlerArgumentsError):
            reason = Reason.ARGUMENTS
        elif not isinstance(error, Exception) or isinstance(error, _NO_END) or self._is_given_back(error):
            return
        else:
            reason = Reason.FAILURE
        app: Any = self.app
        if not keep(app, self.message, error, reason, traceback):
            self.acknowledged = True  # so that it is not, and stays with the broker

    def _is_given_back(self, error: Exception) -> bool:
        """Tell whether Celery has the message of a task that has failed delivered again."""
        task: Any = self.task
        if not task.acks_late:
            return False
        is_lost = isinstance(error, WorkerLostError) and task.reject_on_worker_lost
        return bool(is_lost or (isinstance(error, TimeLimitExceeded) and not task.acks_on_timeout))

    def info(self, safe: bool = False) -> dict[str, Any]:
        """Describe the request, as in replies to `celery inspect`.

        Args:
            safe: Whether to show the arguments as text; they are if some are sensitive.
        """
        described: dict[str, Any] = super().info(safe or is_masked(self.request_dict))
        return described

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """Terminate the task, and announce that when it has ended.

        Args:
            pool: The worker's pool.
            signal: For a pool of processes.
        """
        self._signal = signals.signum(signal or TERM_SIGNAME)
        kill = getattr(pool, "terminate_and_wait", None)
        if kill is not None and self.time_start:
            kill(self.worker_pid, Timeouts.of(self.app).termination)
            if self._already_revoked or self.acknowledged:
                return
        super().terminate(pool, signal)

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:
        # Celery gives the text of what has ended the task, where that comes before the news of its termination.
        number = self._signal if terminated and not isinstance(signum, int) else signum
        super()._announce_revoked(reason, terminated, number, expired)

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        """Cancel the task because the worker stops.

        Args:
            pool: The worker's pool.
            signal: For a pool of processes.
            emit_retry: Whether Celery would have it that the task is tried again. It is not if its message is gone.
        """
        # Celery notes this only after it has told the result backend. A greenlet comes to its end meanwhile, and would
        # count as revoked: its message would be acknowledged and lost.
        self._already_cancelled = True
        super().cancel(pool, signal, emit_retry and not self.acknowledged)
