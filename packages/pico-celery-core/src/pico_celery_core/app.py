"""CeleryFactory: provides the one `Celery`."""

import logging
from typing import Final

from celery import Celery
from pico_ioc import PicoContainer, factory, provides

from pico_celery_core.configuration import load_settings, unread_settings
from pico_celery_core.failures.backend import store_failures_in_full
from pico_celery_core.message_size import max_message_size
from pico_celery_core.settings import CelerySettings
from pico_celery_core.timeouts import Timeouts

APP_NAME: Final = "pico_celery"
"""The name of an app that is made here."""

logger = logging.getLogger(__name__)


# `name=""`: of several providers of one key pico-ioc takes the one with the longest name, so these yield to any other.
# (Its `on_missing_selector`, made for this, works for classes only.)
@factory
class CeleryFactory:
    """Makes the `Celery` app from `CelerySettings`, unless the application provides its own.

    Example:
        >>> from celery import Celery
        >>> from pico_ioc import DictSource, configuration, init
        >>> settings = configuration(DictSource({"celery": {"broker_url": "memory://"}}))
        >>> init(modules=["pico_celery"], config=settings).get(Celery).conf.broker_url
        'memory://'
    """

    @provides(CelerySettings, name="")  # type: ignore[untyped-decorator]
    def settings(self, container: PicoContainer) -> CelerySettings:
        """Read the settings from the configuration prefix `celery`."""
        return load_settings(container)

    @provides(Celery, name="")  # type: ignore[untyped-decorator]
    def app(self, container: PicoContainer, settings: CelerySettings) -> Celery:
        """Make the app, or return the one that the application registered under a subclass of `Celery`."""
        for key in container.keys():
            provider = container.metadata_for(key)
            provided = provider.provided_type if provider else None
            if isinstance(provided, type) and provided is not Celery and issubclass(provided, Celery):
                own: Celery = container.get(key)
                return own
        for unread in unread_settings(container):
            logger.warning("%s %s", unread.problem, unread.hint)
        for read in (Timeouts.read, max_message_size):  # which raise where a setting is wrong
            read(settings.as_celery())
        app = Celery(APP_NAME)
        app.conf.update(settings.as_celery())
        store_failures_in_full(app)
        logger.debug("Made the Celery app from %r", settings)
        return app
