"""Deprecated: where pico-celery 0.2 had the provider of the Celery app. Import from `pico_celery`."""

from pico_celery._deprecation import forward_deprecated

__getattr__ = forward_deprecated(__name__, __file__)
