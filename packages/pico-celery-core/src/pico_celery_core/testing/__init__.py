"""Test doubles for Celery's parts, shared by client and worker."""
