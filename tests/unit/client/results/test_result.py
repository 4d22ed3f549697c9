"""TaskResult: Celery's AsyncResult that can also be awaited."""

import asyncio
import copy
import math
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, states
from celery.app.task import Context
from celery.exceptions import TaskRevokedError
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import ResultSet

from pico_celery_client import CeleryClient, TaskResult, celery, gather_results
from pico_celery_core import send_task
from pico_celery_core.errors import HandlerArgumentsError, ResultTimeoutError
from pico_celery_core.progress import PROGRESS, Progress


@celery
class Client(CeleryClient):
    @send_task("tasks.run")
    def run(self) -> str: ...

    @send_task("tasks.run")
    async def arun(self) -> str: ...


@pytest.fixture
def result(container) -> TaskResult[str]:
    return container(Client).get(Client).run()


def finish(result: TaskResult[str], value: object = None, state: str = states.SUCCESS) -> None:
    result.backend.store_result(result.id, value, state)


async def test_awaiting_a_finished_task_gives_its_value(result):
    finish(result, "done")
    assert await result == "done"
    assert await result.wait(timeout=60) == "done"
    assert result.get(timeout=60) == "done"


async def test_awaiting_waits_for_the_task(result):
    waiting = asyncio.ensure_future(result.wait())
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert not done
    finish(result, "done")
    assert await asyncio.wait_for(waiting, 60) == "done"


async def test_the_event_loop_goes_on_while_it_is_awaited(result):
    waiting = asyncio.ensure_future(result.wait())
    ticks = 0
    while ticks < 20:
        await asyncio.sleep(0)
        ticks += 1
    finish(result, "done")
    assert await asyncio.wait_for(waiting, 60) == "done"


async def test_several_can_wait_for_one_task(result):
    waiting = asyncio.gather(result.wait(), result.wait(), TaskResult(result.id, app=result.app).wait())
    finish(result, "done")
    assert await asyncio.wait_for(waiting, 60) == ["done"] * 3


async def test_waiting_ends_with_a_timeout_and_the_task_goes_on(result):
    with pytest.raises(TimeoutError):
        await result.wait(timeout=0.05)
    assert result.state == states.PENDING
    finish(result, "late")
    assert await result == "late"


async def test_a_timeout_of_zero_finds_what_was_read_before(result):
    finish(result, "done")
    with pytest.raises(TimeoutError):
        await result.wait(timeout=0)
    assert result.ready()
    assert await result.wait(timeout=0) == "done"


async def test_what_the_task_raised_is_raised(result):
    finish(result, ValueError("no such user"), states.FAILURE)
    with pytest.raises(ValueError, match="no such user"):
        await result


async def test_a_task_that_raised_timeout_error_is_told_from_a_wait_that_did(result):
    finish(result, TimeoutError("upstream is slow"), states.FAILURE)
    with pytest.raises(TimeoutError, match="upstream is slow"):
        await result.wait(timeout=60)


async def test_an_error_of_ours_comes_back_whole(result):
    finish(result, HandlerArgumentsError("tasks.run", "app.Tasks.run", "too many", "()"), states.FAILURE)
    with pytest.raises(HandlerArgumentsError) as error:
        await result
    assert (error.value.task, error.value.problem) == ("tasks.run", "too many")


async def test_a_revoked_task_raises(result):
    finish(result, TaskRevokedError("revoked"), states.REVOKED)
    with pytest.raises(TaskRevokedError):
        await result


async def test_waiting_can_be_cancelled(result):
    waiting = asyncio.ensure_future(result.wait())
    await asyncio.wait([waiting], timeout=0.02)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_value_that_is_false_is_a_value(result):
    finish(result, "")
    assert await result == ""


def test_a_result_can_be_made_from_an_id(result, app):
    again: TaskResult[str] = TaskResult(result.id, app=app)
    finish(result, "done")
    assert again.get(timeout=60) == "done"


# All that Celery's own result can do


@pytest.fixture
def on_redis(redis_url: str, container) -> Iterator[Client]:
    app = Celery("tests", broker=redis_url, backend=redis_url, set_as_current=False)
    yield container(Client, overrides={Celery: app}).get(Client)
    app.close()


@pytest.mark.filterwarnings("ignore:.*setex.*:DeprecationWarning")
@pytest.mark.parametrize("how", ["sync", "async"])
async def test_it_does_what_celerys_own_result_does(on_redis, how):
    result = on_redis.run() if how == "sync" else await on_redis.arun()
    assert (result.state, result.ready(), result.children, result.info) == (states.PENDING, False, None, None)
    assert result.as_tuple() == ((result.id, None), None)
    with pytest.raises(CeleryTimeoutError):
        result.get(timeout=0.05)
    called: list[str] = []
    result.then(lambda it: called.append(it.id))
    finish(result, "done")
    assert result.get(timeout=60) == "done"
    assert called == [result.id]
    assert (result.state, result.successful(), result.failed(), result.traceback) == ("SUCCESS", True, False, None)
    assert list(result.collect(timeout=5)) == [(result, "done")]
    assert ResultSet([result], app=result.app).get(timeout=60) == ["done"]
    result.forget()
    assert result.app.AsyncResult(result.id).state == states.PENDING


async def test_a_task_can_be_revoked_through_its_result(on_redis):
    result = await on_redis.arun()
    sent: list[tuple[Any, ...]] = []
    result.app.control.revoke = lambda *args, **options: sent.append((args, options["terminate"]))
    result.revoke(terminate=True)
    assert sent == [((result.id,), True)]


@pytest.mark.filterwarnings("ignore:.*RPC.*:PendingDeprecationWarning")
@pytest.mark.parametrize("how", ["sync", "async"])
async def test_a_reply_by_rpc_reaches_who_awaits_it_whichever_thread_has_sent(
    rabbitmq_url, rabbitmq_queue, container, how
):
    app = Celery("tests", broker=rabbitmq_url, backend="rpc://", set_as_current=False)
    app.conf.task_default_queue = rabbitmq_queue
    client = container(Client, overrides={Celery: app}).get(Client)
    result = client.run() if how == "sync" else await client.arun()
    waiting = asyncio.ensure_future(result.wait(timeout=60))
    request = Context(reply_to=result.reply_to, correlation_id=result.id)
    await asyncio.to_thread(app.backend.store_result, result.id, "done", states.SUCCESS, request=request)
    assert await waiting == "done"
    app.close()


@pytest.mark.filterwarnings("ignore:.*RPC.*:PendingDeprecationWarning")
@pytest.mark.parametrize("how", ["copied", "pickled"])
async def test_a_reply_by_rpc_reaches_who_awaits_a_copy(rabbitmq_url, rabbitmq_queue, container, how):
    app = Celery("tests", broker=rabbitmq_url, backend="rpc://")
    app.conf.task_default_queue = rabbitmq_queue
    result = await container(Client, overrides={Celery: app}).get(Client).arun()
    request = Context(reply_to=result.reply_to, correlation_id=result.id)
    await asyncio.to_thread(app.backend.store_result, result.id, "done", states.SUCCESS, request=request)
    again = copy.copy(result) if how == "copied" else pickle.loads(pickle.dumps(result))
    assert await again.wait(timeout=60) == "done"
    app.close()


# pico_result_timeout


@pytest.fixture
def limited(container, app) -> TaskResult[str]:
    app.conf.pico_result_timeout = 0.05
    return container(Client).get(Client).run()


async def follow(result: TaskResult[str]) -> None:
    async for _ in result.progress():
        pass


@pytest.mark.parametrize("wait", [lambda result: result.wait(), gather_results, follow])
async def test_without_a_timeout_of_its_own_waiting_ends_after_the_setting(limited, wait):
    with pytest.raises(ResultTimeoutError, match=r"0\.05 s.*backend_url") as raised:
        await wait(limited)
    assert raised.value.task_id == limited.id
    assert raised.value.timeout == 0.05


def test_the_setting_holds_for_get_too(limited):
    with pytest.raises(CeleryTimeoutError):
        limited.get()


async def test_a_timeout_of_its_own_wins_over_the_setting(limited):
    waiting = [asyncio.ensure_future(limited.wait(timeout)) for timeout in (60, math.inf)]
    done, _ = await asyncio.wait(waiting, timeout=0.3)
    assert not done
    finish(limited, "done")
    assert await asyncio.gather(*waiting) == ["done"] * 2
    assert limited.get(math.inf) == "done"


async def test_a_timeout_of_a_loop_around_progress_is_left_alone(limited):
    """Only the waiting is limited, and not what is done with a step."""
    finish(limited, Progress(1, 2).as_meta(), PROGRESS)
    async for step in limited.progress():
        await asyncio.sleep(0.2)
        assert step.current == 1
        finish(limited, "done")
        break
    assert await limited == "done"
