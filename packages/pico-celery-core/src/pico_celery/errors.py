"""All errors of pico-celery.

Example:
    >>> from pico_celery.errors import PicoCeleryError, PublishTimeoutError
    >>> issubclass(PublishTimeoutError, PicoCeleryError)
    True
"""

from pico_celery_core.errors import *  # noqa: F403  # pyright: ignore[reportWildcardImportFromLibrary]
from pico_celery_core.errors import __all__ as __all__  # noqa: PLC0414
