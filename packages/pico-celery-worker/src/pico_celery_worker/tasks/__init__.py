"""Registration: a handler becomes a Celery task."""
