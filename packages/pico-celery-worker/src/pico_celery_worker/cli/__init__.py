"""Tools for operators: `celery pico …`."""
