"""Nothing sensitive is shown of a dead letter."""

import json
from typing import Annotated, Any

import pytest
from pico_ioc import component

from pico_celery import task
from pico_celery_core.sensitive import MASK, Sensitive
from pico_celery_worker.dead_letters import DeadLetter, DeadLetters, Reason
from tests.unit.worker.applications import app_of
from tests.unit.worker.requests import message_of

SECRET = "the-secret"


@component(scope="prototype")
class Tasks:
    @task("secret")
    async def secret(self, user: str = "", password: Annotated[str, Sensitive] = "") -> None: ...

    @task("plain")
    async def plain(self, user: str = "") -> None: ...


@component(scope="prototype")
class Plain:
    @task("plain")
    async def plain(self, user: str = "") -> None: ...


def letter_of(name: str, args: Any = (), kwargs: Any = None, reason: Reason = Reason.ARGUMENTS, **headers: Any) -> Any:
    message = message_of(name, **headers)
    message.body = json.dumps([args, kwargs or {}, {}])
    return DeadLetter.of(message, ValueError(f"{SECRET} is no number"), reason)


@pytest.mark.parametrize(
    ("args", "kwargs", "shown"),
    [
        (["ada", SECRET], {}, "('ada', '***') {}"),
        (["ada"], {"password": SECRET}, "('ada',) {'password': '***'}"),
        ([], {"user": "ada", "pasword": SECRET}, "() {'user': 'ada', 'pasword': '***'}"),
    ],
)
def test_a_sensitive_argument_is_masked(args: Any, kwargs: Any, shown: str):
    seen = DeadLetters(app_of(Tasks)).show(letter_of("secret", args, kwargs))
    assert f"{seen.args} {seen.kwargs}" == shown


def test_what_its_sender_masks_is_masked():
    seen = DeadLetters(app_of(Plain)).show(letter_of("gone", [SECRET], argsrepr="('***',)", kwargsrepr="{}"))
    assert (seen.args, seen.kwargs) == (MASK, MASK)


def test_where_nobody_knows_the_task_one_that_masks_is_enough():
    letter = letter_of("gone", [SECRET])
    assert DeadLetters(app_of(Tasks)).show(letter).args == MASK
    assert SECRET in DeadLetters(app_of(Plain)).show(letter).args


@pytest.mark.parametrize("name", ["secret", "gone"])
def test_an_error_of_decoding_is_masked_too(name: str):
    letter = letter_of(name, reason=Reason.UNDECODABLE)
    undecodable = DeadLetter.from_json(letter.to_json().replace(json.dumps(letter.content_type), '"application/odd"'))
    seen = DeadLetters(app_of(Tasks)).show(undecodable)
    assert SECRET not in str(seen)
    assert seen.error == "ValueError: ***"


def test_the_rest_is_shown():
    letters = DeadLetters(app_of(Tasks))
    seen = letters.show(letter_of("plain", ["ada"], {"more": 1}))
    assert (seen.args, seen.kwargs) == ("['ada']", "{'more': 1}")
    assert seen.error == f"ValueError: {SECRET} is no number"
    odd = DeadLetter.from_json(letter_of("plain").to_json().replace("application/json", "application/odd"))
    assert letters.show(odd).args == "(cannot be decoded)"
