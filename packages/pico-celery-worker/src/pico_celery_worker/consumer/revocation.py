"""The command by which a client cancels tasks: it revokes them, and tells what has become of each.

Celery's own `revoke` tells only that it was heard.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from celery.worker import state
from celery.worker.control import control_command, revoke

from pico_celery_core.revocation import COMMAND, Answer
from pico_celery_worker.consumer.unacked import settles_at_once
from pico_celery_worker.transports.workers import worker_name

# How many tasks are terminated at a time, where that takes a greenlet and no thread.
_AT_A_TIME: Final = 100


def register_command() -> None:
    """Have this worker know the command."""
    control_command(name=COMMAND, visible=False)(pico_revoke)


def pico_revoke(control: Any, task_ids: Sequence[str], **_: Any) -> dict[str, Any]:
    """Revoke tasks, terminate those that run, and wait for their end where the pool lets it.

    Args:
        control: Celery's state of remote control.
        task_ids: Their ids.
        **_: What later clients may send along.

    Returns:
        The name of this worker, and an `Answer` for each task that it has, or has seen succeed.
    """
    # First of all: what arrives or begins while others are terminated is not to run.
    state.merge_revoked(task_ids)
    known = {task_id: state.requests[task_id] for task_id in task_ids if task_id in state.requests}

    def terminate(task_id: str) -> None:
        # Only what is here: of others Celery would note the state REVOKED, while another worker may be about to run it.
        revoke(control, task_id, terminate=True)

    if settles_at_once(control.consumer):
        # Threads are greenlets here.
        with ThreadPoolExecutor(_AT_A_TIME) as executor:
            list(executor.map(terminate, known))
    else:
        for task_id in known:
            terminate(task_id)
    answers = {task_id: _answer(task_id, known.get(task_id)) for task_id in task_ids}
    return {"worker": worker_name(), "answers": {key: str(value) for key, value in answers.items() if value}}


def _answer(task_id: str, request: Any) -> Answer | None:
    if task_id in state.successful_requests or getattr(request, "has_ended", False):
        return Answer.ENDED
    if request is None:
        return None
    return Answer.RUNNING if request in state.active_requests else Answer.REVOKED
