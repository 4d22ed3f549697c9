"""The request of an async task: it keeps its message, and ends when its task has ended."""

import signal
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from billiard.einfo import ExceptionInfo
from billiard.exceptions import Terminated
from celery import signals
from celery.exceptions import Ignore, Retry
from celery.worker import state
from celery.worker.request import Request
from kombu.utils.imports import symbol_by_name
from pico_ioc import component

from pico_celery import task
from pico_celery_core.errors import HandlerArgumentsError
from pico_celery_core.sensitive import Sensitive
from pico_celery_core.timeouts import Timeouts
from pico_celery_worker.consumer import request as module
from pico_celery_worker.consumer.consumer import ReliableConsumer
from pico_celery_worker.consumer.request import AsyncRequest
from pico_celery_worker.consumer.unacked import UnackedMessages
from pico_celery_worker.dead_letters import Reason
from tests.unit.worker.applications import app_of
from tests.unit.worker.requests import Channel, consumer_of, info_of, message_of, request_of


@component(scope="prototype")
class Tasks:
    @task("late", acks_late=True)
    async def late(self) -> None: ...

    @task("early")
    async def early(self, password: Annotated[str, Sensitive] = "") -> None: ...


class Pool:
    """Terminates a task at once: its request hears of it before whoever asked for it does anything more."""

    def __init__(self, request: Any, *, waits: bool = True) -> None:
        self.request = request
        self.terminated: list[Any] = []
        self.waited: list[Any] = []
        self.already_cancelled = False
        if waits:
            self.terminate_and_wait = lambda pid, timeout: self.waited.append((pid, timeout))

    def terminate_job(self, pid: Any, signal: Any) -> None:
        self.terminated.append(pid)
        self.already_cancelled = self.request._already_cancelled
        self.request.on_failure(killed())


def killed(error: BaseException | None = None, *, wrapped: bool = True) -> ExceptionInfo:
    error = error or Terminated("killed")
    info = info_of(error)
    if not wrapped:
        info.exception = error
    return info


@pytest.fixture
def unacked_messages(monkeypatch) -> UnackedMessages:
    own = UnackedMessages()
    monkeypatch.setattr(module, "unacked_messages", own)
    return own


@pytest.fixture
def make(app, container, unacked_messages):
    """Make a request, of which the pool has told that it runs."""
    container(Tasks)
    state.reset_state()

    def make(name: str = "late", *, kind: Any = AsyncRequest, accepted: bool = True, **options: Any) -> Any:
        request = request_of(app, message_of(name, **options), kind)
        state.task_reserved(request)
        if accepted:
            request.on_accepted(77, 0.0)
        return request

    yield make
    state.reset_state()


def answers(request: Any) -> list[str]:
    found: list[str] = request.message.channel.answers
    return found


def state_of(request: Any) -> str:
    found: str = request.app.AsyncResult(request.id).state
    return found


def test_it_is_what_async_tasks_are_received_with(app, container):
    container(Tasks)
    assert symbol_by_name(app.tasks["late"].Request) is AsyncRequest


def test_a_renewed_request_is_that_of_the_new_delivery(make):
    request = make()
    old, new = request.message, message_of("late", request.id)
    request.rebind(new, new.ack_log_error, new.reject_log_error)
    assert request.message is new
    assert (request.on_ack, request.on_reject) == (new.ack_log_error, new.reject_log_error)
    request.acknowledge()
    assert (old.channel.answers, new.channel.answers) == ([], ["acknowledged"])


def test_a_renewed_request_rejects_the_new_delivery(make):
    request = make()
    old, new = request.message, message_of("late", request.id)
    request.rebind(new, new.ack_log_error, new.reject_log_error)
    request.reject(requeue=True)
    assert (old.channel.answers, new.channel.answers) == ([], ["requeued"])


def test_a_renewal_sets_names_that_celerys_request_has(make):
    """Fails when Celery changes what `renew` relies on."""
    plain, message = make(kind=Request), message_of("late")
    for name, value in (("_message", message), ("_on_ack", "ack"), ("_on_reject", "reject")):
        assert getattr(plain, name) == getattr(plain, name.removeprefix("_"))
        setattr(plain, name, value)
        assert getattr(plain, name.removeprefix("_")) == value
    for name in ("message", "on_ack"):
        with pytest.raises(AttributeError):
            setattr(plain, name, None)


def test_a_message_is_answered_once(make):
    request = make()
    request.acknowledge()
    request.acknowledge()
    request.reject(requeue=True)
    assert request.acknowledged
    assert answers(request) == ["acknowledged"]


@pytest.mark.parametrize(("requeue", "answer"), [(True, "requeued"), (False, "rejected")])
def test_a_message_is_rejected(make, requeue, answer):
    request = make()
    request.reject(requeue)
    assert answers(request) == [answer]


@pytest.mark.parametrize("requeue", [None, False, True])
def test_what_cannot_be_answered_is_not_answered(make, unacked_messages, requeue):
    unacked_messages.enable()
    request = make()
    request.message.channel.is_open = False
    if requeue is None:
        request.acknowledge()
    else:
        request.reject(requeue)
    assert request.acknowledged
    assert answers(request) == []


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("value", [1, True])
def test_what_is_killed_when_the_worker_ends_is_left_to_the_next(make, monkeypatch, value, wrapped):
    monkeypatch.setattr(state, "should_terminate", value)
    request = make()
    request.on_failure(killed(wrapped=wrapped))
    assert answers(request) == []
    assert state_of(request) == "PENDING"
    assert not state.active_requests


def test_what_succeeds_when_the_worker_ends_is_acknowledged(make, monkeypatch):
    monkeypatch.setattr(state, "should_terminate", 1)
    request = make()
    request.on_success((False, None, 0.0))
    assert answers(request) == ["acknowledged"]


def test_what_fails_when_the_worker_ends_is_acknowledged(make, monkeypatch):
    monkeypatch.setattr(state, "should_terminate", 1)
    request = make()
    request.on_failure(killed(KeyError("x")))
    assert answers(request) == ["acknowledged"]


@pytest.mark.parametrize("value", [None, False])
def test_what_is_killed_otherwise_is_revoked(make, monkeypatch, value):
    monkeypatch.setattr(state, "should_terminate", value)
    request = make()
    request.on_failure(killed())
    assert answers(request) == ["acknowledged"]
    assert state_of(request) == "REVOKED"


def test_celerys_request_acknowledges_what_is_killed_when_the_worker_ends(make, monkeypatch):
    """Fails when Celery no longer does what `on_failure` is for."""
    monkeypatch.setattr(state, "should_terminate", 1)
    request = make(kind=Request)
    request.on_failure(killed())
    assert answers(request) == ["acknowledged"]


@pytest.mark.parametrize("safe", [False, True])
def test_sensitive_arguments_are_not_shown(make, safe):
    request = make("early", args=["the-secret"], argsrepr="('***',)", kwargsrepr="{}")
    shown = request.info(safe=safe)
    assert (shown["args"], shown["kwargs"]) == ("('***',)", "{}")
    assert "the-secret" not in repr(shown)


def test_other_arguments_are_shown_as_celery_shows_them(make):
    request = make("late", args=["ada"], argsrepr="('ada',)", kwargsrepr="{}")
    assert request.info()["args"] == ["ada"]
    assert request.info(safe=True)["args"] == "('ada',)"
    assert request.info() == Request.info(request)


def test_a_terminated_task_is_waited_for(make, app):
    request = make()
    pool = Pool(request)

    def terminate_and_wait(pid: Any, timeout: float) -> None:
        pool.waited.append((pid, timeout))
        request.on_failure(killed())

    pool.terminate_and_wait = terminate_and_wait
    request.terminate(pool)
    assert pool.waited == [(77, Timeouts.of(app).termination)]
    assert pool.terminated == []
    assert answers(request) == ["acknowledged"]
    assert state_of(request) == "REVOKED"


def test_one_that_does_not_end_is_terminated_as_celery_does(make):
    request = make()
    pool = Pool(request)
    request.terminate(pool, "TERM")
    assert (len(pool.waited), pool.terminated) == (1, [77])
    assert answers(request) == ["acknowledged"]
    assert state_of(request) == "REVOKED"


def test_one_that_ends_by_itself_meanwhile_is_not_revoked(make):
    request = make()
    pool = Pool(request)
    pool.terminate_and_wait = lambda pid, timeout: request.on_success((False, None, 0.0))
    request.terminate(pool)
    assert pool.terminated == []
    assert answers(request) == ["acknowledged"]
    assert state_of(request) == "PENDING"  # its tracer would have stored the result


def test_a_pool_that_cannot_wait_terminates_as_celery_does(make):
    request = make()
    pool = Pool(request, waits=False)
    request.terminate(pool)
    assert pool.terminated == [77]
    assert state_of(request) == "REVOKED"


def test_a_task_that_has_not_begun_is_terminated_when_it_does(make):
    request = make(accepted=False)
    pool = Pool(request)
    request.terminate(pool)
    assert (pool.waited, pool.terminated, answers(request)) == ([], [], [])
    request.on_accepted(78, 0.0)
    assert pool.terminated == [78]
    assert answers(request) == ["acknowledged"]


def test_a_task_whose_beginning_is_heard_of_after_the_worker_has_cancelled_the_others_is_cancelled(make, app):
    request = make(accepted=False)
    pool = Pool(request)
    consumer = consumer_of(app, kind=ReliableConsumer)
    consumer.pool = pool
    consumer.cancel_active_requests()
    assert (pool.terminated, answers(request)) == ([], [])
    request.on_accepted(78, 0.0)
    assert pool.terminated == [78]
    assert pool.already_cancelled
    assert answers(request) == []


def test_a_cancelled_task_keeps_its_message_although_it_ends_before_that_is_told(make):
    request = make()
    pool = Pool(request)
    request.cancel(pool)
    assert pool.terminated == [77]
    assert pool.already_cancelled
    assert answers(request) == []
    assert state_of(request) == "RETRY"


def test_a_cancelled_task_whose_message_is_gone_is_not_said_to_be_tried_again(make):
    request = make("early")
    request.cancel(Pool(request))
    assert state_of(request) == "PENDING"  # the consumer stores its end


def test_nor_is_one_that_began_too_late_to_be_cancelled_given_back(make, monkeypatch):
    request = make("early")
    monkeypatch.setattr(state, "should_terminate", 1)
    request.on_failure(killed())
    assert answers(request) == ["acknowledged"]
    assert state_of(request) == "REVOKED"


def test_a_cancelled_task_may_go_without_being_told_of(make):
    request = make()
    request.cancel(Pool(request), emit_retry=False)
    assert answers(request) == []
    assert state_of(request) == "PENDING"


def test_celerys_request_notes_too_late_that_it_is_cancelled(make):
    """Fails when Celery no longer does what `cancel` is for."""
    request = make(kind=Request)
    pool = Pool(request)
    request.cancel(pool)
    assert not pool.already_cancelled
    assert answers(request) == ["acknowledged"]


def test_a_failure_is_passed_on_with_what_celery_says_of_it(make, monkeypatch):
    passed: list[Any] = []
    monkeypatch.setattr(Request, "on_failure", lambda self, info, **options: passed.append((info, options)))
    info = SimpleNamespace(exception=KeyError("x"), traceback="")
    make().on_failure(info, send_failed_event=False, return_ok=True)
    assert passed == [(info, {"send_failed_event": False, "return_ok": True})]


def test_the_channel_of_these_tests_is_as_strict_as_a_brokers():
    channel = Channel()
    channel.is_open = False
    with pytest.raises(ConnectionResetError):
        message_of("late", channel=channel).ack()


@pytest.mark.parametrize(("given", "expected"), [(None, signal.SIGTERM), ("KILL", signal.SIGKILL)])
def test_who_hears_of_a_termination_gets_the_number_of_its_signal(make, given, expected):
    request = make()
    heard: list[Any] = []
    receive = lambda signum, **_: heard.append(signum)  # noqa: E731
    signals.task_revoked.connect(receive)
    pool = Pool(request)
    pool.terminate_and_wait = lambda pid, timeout: request.on_failure(killed())
    try:
        request.terminate(pool, given)
    finally:
        signals.task_revoked.disconnect(receive)
    assert heard == [expected]


def failed(task_name: str, error: BaseException) -> Any:
    """Return the message of a task that has failed with an error."""
    message = message_of(task_name)
    request = request_of(app_of(Tasks), message)
    state.task_accepted(request)
    request.on_failure(info_of(error), return_ok=True)
    return message


MISFIT = HandlerArgumentsError("late", "Tasks.late", "missing a required argument: 'a'", "(a)")


@pytest.mark.parametrize(
    ("error", "reasons"),
    [
        (MISFIT, [Reason.ARGUMENTS]),
        (KeyError("x"), [Reason.FAILURE]),
        (Retry("later", KeyError("x")), []),
        (Ignore(), []),
        (Terminated("SIGTERM"), []),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_message_is_kept_as_a_dead_letter_where_its_task_has_ended_badly(letters, monkeypatch, error, reasons):
    monkeypatch.setattr(AsyncRequest, "_announce_revoked", lambda *_: None)
    failed("late", error)
    assert letters.reasons == reasons


def test_it_is_kept_before_it_is_acknowledged(letters):
    message = failed("late", MISFIT)
    assert letters.answers == []
    assert message.channel.answers == ["acknowledged"]


def test_what_cannot_be_kept_is_not_acknowledged(letters):
    letters.can_be_kept = False
    assert failed("late", MISFIT).channel.answers == []


def test_a_time_limit_that_ends_a_process_is_a_failure(letters):
    for name, times_out in (("late", True), ("late", False), ("early", False)):
        app = app_of(Tasks)
        app.tasks[name].acks_on_timeout = times_out
        request = request_of(app, message_of(name))
        state.task_accepted(request)
        request.on_timeout(True, 1)
        request.on_timeout(False, 1)
    assert letters.reasons == [Reason.FAILURE] * 2  # the other is given back
