"""A plain Celery app that Sentry observes, in an environment in which our packages are installed."""

import os

from celery import Celery

from tests.integration.apps.observing import observe_at

app = Celery("plain", broker=os.environ["TEST_BROKER_URL"], backend=os.environ["TEST_BACKEND_URL"])
observe_at(os.environ["TEST_MOMENT"])


@app.task(name="observed.fail")
def fail(user: str, secret: str) -> None:
    raise LookupError(user)
