"""A worker whose user has forgotten something says so when it starts."""

import pytest

from tests import services
from tests.integration.workers import celery, running_worker

GEVENT = ("-P", "gevent", "-c", "10")


@pytest.fixture(scope="module")
def servers():
    with services.redis_database() as url:
        yield {"broker": url, "backend": url}


@pytest.mark.parametrize(
    ("oversight", "options", "pattern"),
    [
        ("component", GEVENT, r"Reminders declares 'oversights.remind', and is no component.*@component\(scope='proto"),
        ("module", GEVENT, r"This worker has no tasks: its container"),
        ("app", GEVENT, r"This worker has no tasks: its app 'other' is not .* mean app = container\.get\(Celery\)"),
        ("request", GEVENT, r"Reminders, which has the scope 'request', .* Did you mean 'prototype' or 'task'\?"),
        ("", (), r"No pool was chosen, so this is the prefork pool.*Did you mean -P gevent"),
        ("", ("-P", "gevent"), r"No concurrency was chosen, .*Did you mean -c 1000\?"),
        ("", ("-P", "threads"), r"No concurrency was chosen, .*Did you mean -c 100\?"),
    ],
)
def test_a_worker_says_at_its_start_what_was_forgotten(servers, oversight, options, pattern):
    with running_worker("oversights", *options, **servers, TEST_OVERSIGHT=oversight) as worker:
        worker.wait_for_log(rf"WARNING.*{pattern}")
        assert worker.stop() == 0


@pytest.mark.parametrize("options", [GEVENT, ("-P", "eventlet", "-c", "2"), ("-P", "prefork", "-c", "1")])
def test_a_worker_of_a_scope_that_there_is_not_does_not_start(servers, options):
    variables = {"TEST_BROKER_URL": servers["broker"], "TEST_OVERSIGHT": "prototyp"}
    with celery("worker", "oversights", *options, **variables) as worker:
        worker.wait_for_log(r"CRITICAL.*The worker cannot start: .*scope 'prototyp'.* Did you mean 'prototype'\?")
        assert worker.wait() == 1


def test_a_worker_in_order_says_nothing(servers):
    with running_worker("oversights", *GEVENT, **servers) as worker:
        assert worker.stop() == 0
        assert "Did you mean" not in worker.log
