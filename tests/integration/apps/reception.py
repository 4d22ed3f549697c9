"""The tasks of endurance.py, in a worker with an extension that fails with messages in which nothing is wrong."""

import os
from typing import Any

from celery import bootsteps

from tests.integration.apps.endurance import app

__all__ = ["app"]

ERRORS = {error.__name__: error for error in (AttributeError, KeyError, MemoryError, OSError)}


class Extension(bootsteps.Step):  # type: ignore[misc]  # Celery has no types
    """Is told of each message of `endurance.late`, as Celery's autoscaler is, and fails: an OSError once."""

    requires = ("celery.worker.consumer:Tasks",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._error = ERRORS[os.environ["TEST_ERROR"]]
        parent.on_task_message.add(self._fail)

    def _fail(self, request: Any) -> None:
        if self._error is not None and request.name == "endurance.late":
            error = self._error
            if error is OSError:
                self._error = None
            raise error("the extension is broken")


app.steps["consumer"].add(Extension)
