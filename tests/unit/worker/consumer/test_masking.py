"""What a worker shows of sensitive arguments."""

import logging
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from pico_ioc import component

from pico_celery_core.decorators import task
from pico_celery_core.metadata import task_spec
from pico_celery_core.sensitive import Sensitive
from pico_celery_worker.consumer.masking import Mask, PoolLogFilter, is_masked, mask_pool_log, without_body
from pico_celery_worker.execution.execution import Handler

SECRET = "the-secret"


@component(scope="prototype")
class Accounts:
    @task("masking.open")
    async def open(
        self, user: str, password: Annotated[str, Sensitive], *rest: Annotated[str, Sensitive], token: str = ""
    ) -> None: ...

    @task("masking.bound", bind=True)
    async def bound(
        self, task: Any, password: Annotated[str, Sensitive], **more: Annotated[str, Sensitive]
    ) -> None: ...

    @task("masking.plain")
    async def plain(self, user: str) -> None: ...


def handler(method: str) -> Handler:
    spec = task_spec(getattr(Accounts, method))
    assert spec is not None
    return Handler(key=Accounts, cls=Accounts, method=method, spec=spec)


@pytest.mark.parametrize(
    ("method", "args", "kwargs", "shown"),
    [
        ("open", ["ada", SECRET], {}, ("('ada', '***')", "{}")),
        ("open", ["ada"], {"password": SECRET, "token": "x"}, ("('ada',)", "{'password': '***', 'token': 'x'}")),
        ("open", ["ada", SECRET, SECRET, SECRET], {}, ("('ada', '***', '***', '***')", "{}")),
        ("open", [], {}, ("()", "{}")),
        ("bound", [SECRET], {"other": SECRET}, ("('***',)", "{'other': '***'}")),
        ("plain", ["ada"], {}, ("('ada',)", "{}")),
    ],
)
def test_what_the_handler_marks_is_masked(method, args, kwargs, shown):
    headers: dict[str, Any] = {"argsrepr": repr(args), "kwargsrepr": repr(kwargs)}
    Mask(handler(method)).put_on(headers, args, kwargs)
    assert (headers["argsrepr"], headers["kwargsrepr"]) == shown
    assert is_masked(headers) is (SECRET in repr((args, kwargs)))


def test_a_message_without_headers_is_not_masked():
    assert not is_masked(None)
    assert not is_masked({})


@pytest.mark.parametrize(("argsrepr", "shown"), [("('***',)", "***"), ("('ada',)", "the body")])
def test_the_body_of_a_message_that_no_task_takes_is_masked(argsrepr, shown):
    message = SimpleNamespace(headers={"argsrepr": argsrepr})
    calls: list[Any] = []
    without_body(lambda *args: calls.append(args))("the body", message, "error")
    assert calls == [(shown, message, "error")]


def test_the_pools_debug_log_says_nothing_of_a_masked_message(caplog):
    mask_pool_log()
    mask_pool_log()
    logger = logging.getLogger("celery.pool")
    assert sum(isinstance(present, PoolLogFilter) for present in logger.filters) == 1
    with caplog.at_level(logging.DEBUG, logger="celery.pool"):
        # As celery.concurrency.base.BasePool.apply_async has it, in Celery 5.7.0.
        logger.debug("TaskPool: Apply %s (args:%s kwargs:%s)", "trace", f"'argsrepr': '***', '{SECRET}'", "{}")
        logger.debug("TaskPool: Apply %s (args:%s kwargs:%s)", "trace", "'argsrepr': 'ada'", "{}")
    assert SECRET not in caplog.text
    assert "'argsrepr': 'ada'" in caplog.text
