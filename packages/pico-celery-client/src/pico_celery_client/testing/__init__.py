"""Doubles for tests of code that sends tasks: no broker, no worker, no result backend."""

from pico_celery_client.testing.calls import Call
from pico_celery_client.testing.outcomes import NoOutcomeError
from pico_celery_client.testing.recording import RecordingCelery

__all__ = ["Call", "NoOutcomeError", "RecordingCelery"]
