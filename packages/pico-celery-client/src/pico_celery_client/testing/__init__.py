"""Doubles for tests of code that sends tasks: no broker, no worker, no result backend."""

from pico_celery_client.testing.app import RecordingCelery
from pico_celery_client.testing.calls import Call
from pico_celery_client.testing.outcomes import NoOutcomeError

__all__ = ["Call", "NoOutcomeError", "RecordingCelery"]
