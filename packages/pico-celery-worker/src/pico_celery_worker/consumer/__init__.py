"""Intake: the broker's side of a worker, all that Celery's Consumer needs."""
