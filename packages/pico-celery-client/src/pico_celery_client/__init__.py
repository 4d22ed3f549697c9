"""Typed, injectable clients that send Celery tasks."""

from pico_celery_client.client import CeleryClient, celery, with_options
from pico_celery_client.interceptor import CeleryClientInterceptor
from pico_celery_client.many import send_all, send_all_sync
from pico_celery_client.publishing.interception import OutgoingTask, SendInterceptor
from pico_celery_client.results.result import TaskResult, as_completed, cancel_all, gather_results
from pico_celery_client.signatures import TaskSignature, partial_signature, signature

__all__ = [
    "CeleryClient",
    "CeleryClientInterceptor",
    "OutgoingTask",
    "SendInterceptor",
    "TaskResult",
    "TaskSignature",
    "as_completed",
    "cancel_all",
    "celery",
    "gather_results",
    "partial_signature",
    "send_all",
    "send_all_sync",
    "signature",
    "with_options",
]

__version__ = "0.3.0"
