"""Typed, injectable clients that send Celery tasks."""

from pico_celery_client.client import CeleryClient, celery, with_options
from pico_celery_client.interceptor import CeleryClientInterceptor
from pico_celery_client.publishing.interception import OutgoingTask, SendInterceptor
from pico_celery_client.results.result import TaskResult, gather_results
from pico_celery_client.signatures import TaskSignature, partial_signature, signature

__all__ = [
    "CeleryClient",
    "CeleryClientInterceptor",
    "OutgoingTask",
    "SendInterceptor",
    "TaskResult",
    "TaskSignature",
    "celery",
    "gather_results",
    "partial_signature",
    "signature",
    "with_options",
]

__version__ = "0.3.0"
