"""What `init(modules=["pico_celery_client", ...])` finds: the components of every installed package of pico-celery."""

from pico_celery.components import *  # noqa: F403  # pyright: ignore[reportWildcardImportFromLibrary]
