"""What `init(modules=["pico_celery_worker", ...])` finds: the components of every installed package of pico-celery."""

from pico_celery.components import *  # noqa: F403  # pyright: ignore[reportWildcardImportFromLibrary]
