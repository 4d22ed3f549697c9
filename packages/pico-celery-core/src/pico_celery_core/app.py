"""CeleryFactory: provides the one `Celery`."""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

from celery import Celery
from pico_ioc import ComponentCreationError, PicoContainer, ProviderNotFoundError, factory, provides

from pico_celery_core.configuration import load_settings, unread_settings
from pico_celery_core.errors import SettingsError
from pico_celery_core.failures.backend import store_failures_in_full
from pico_celery_core.http_endpoint import HttpEndpoint
from pico_celery_core.message_size import max_message_size
from pico_celery_core.publishing_time import note_publishing_times
from pico_celery_core.settings import CelerySettings
from pico_celery_core.timeouts import Timeouts
from pico_celery_core.transports import check_transports

APP_NAME: Final = "pico_celery"
"""The name of an app that is made here."""

logger = logging.getLogger(__name__)


class _ShownError(SettingsError, ProviderNotFoundError, ComponentCreationError):
    """A wrong setting, shown as it is: pico-ioc puts each error of a provider into one of its own, but for one kind.

    Read in pico-ioc 2.5.2; tests/unit/core/test_app.py holds it to that.
    """

    def __init__(self, error: SettingsError) -> None:
        SettingsError.__init__(self, error.setting, error.problem, error.hint)
        self.key = CelerySettings
        self.cause = error

    def __reduce__(self) -> tuple[Any, ...]:
        return SettingsError, (self.setting, self.problem, self.hint)


# It shows as what it is to a user.
_ShownError.__name__ = _ShownError.__qualname__ = SettingsError.__name__
_ShownError.__module__ = SettingsError.__module__


@contextmanager
def _shown_as_it_is() -> Generator[None]:
    try:
        yield
    except SettingsError as error:
        raise _ShownError(error) from error.__cause__


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
        with _shown_as_it_is():
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
        with _shown_as_it_is():
            for read in (Timeouts.read, max_message_size, HttpEndpoint.read):  # which raise where a setting is wrong
                read(settings.as_celery())
            check_transports(settings.broker_url, settings.backend_url)
        app = Celery(APP_NAME)
        app.conf.update(settings.as_celery())
        store_failures_in_full(app)
        note_publishing_times()
        logger.debug("Made the Celery app from %r", settings)
        return app
