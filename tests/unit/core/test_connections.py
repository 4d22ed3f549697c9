"""What is said of a server that lets nobody in leads to what to look at."""

import pytest

from pico_celery_core.connections import connection_hint


@pytest.mark.parametrize(
    ("problem", "url", "hint"),
    [
        ("(403) ACCESS_REFUSED - Login was refused", "amqp://mq//", "Check user and password in broker_url."),
        (
            "invalid username-password pair or user is disabled.",
            "redis://cache",
            "Check user and password in broker_url.",
        ),
        ("NOAUTH Authentication required.", "redis://cache", "Check user and password in broker_url."),
        ("(530) NOT_ALLOWED - vhost nope not found", "amqp://mq/nope", "Check the virtual host"),
        ("Timeout connecting to server", "rediss://cache", "If it does not, write redis://."),
        ("[SSL: WRONG_VERSION_NUMBER]", "amqps://mq", "If it does not, write amqp://."),
    ],
)
def test_the_hint_says_what_to_look_at(problem, url, hint):
    assert hint in connection_hint(problem, url, "broker_url")


@pytest.mark.parametrize("problem", ["Connection refused", "Timeout connecting to server"])
def test_what_says_it_itself_gets_no_hint(problem):
    assert connection_hint(problem, "redis://cache", "broker_url") == ""
