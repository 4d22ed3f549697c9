"""What all commands of `celery pico` need: the app that `-A` names, and how to show something."""

from typing import Any

import click
from celery import Celery
from celery.bin.base import CLIContext

from pico_celery_worker.cli import rendering
from pico_celery_worker.cli.inspection import Inspection, inspect_app


def style(context: CLIContext) -> rendering.Style:
    """Return what gives a text its colours, where the terminal is to show them."""

    def plain(text: str, **_: Any) -> str:
        return text

    return plain if context.no_color else click.style


def inspected(app: Celery | None) -> Inspection:
    """Look at the app that `-A` names.

    Args:
        app: The app, if there is one.

    Raises:
        click.ClickException: If no container of pico-celery is behind it.
    """
    inspection = None
    if app is not None:
        app.loader.import_default_modules()
        inspection = inspect_app(app)
    if inspection is None:
        raise click.ClickException(
            "No container of pico-celery is behind this app. Take the app from the container, as in "
            "`app = container.get(Celery)`, and name its module: `celery -A module pico ...`."
        )
    return inspection
