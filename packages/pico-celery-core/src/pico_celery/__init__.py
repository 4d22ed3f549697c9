"""The front door: every public name of pico-celery, from whichever of its packages is installed.

The names are listed once, in `__init__.pyi`, which type checkers read too.
"""

import pico_celery_core as _core
from pico_celery._forwarding import forward, homes_of

__version__ = _core.__version__

_homes = homes_of(__file__)
__all__ = sorted(_homes)  # noqa: PLE0605  # pyright: ignore[reportUnsupportedDunderAll]
__getattr__ = forward(globals(), _homes)


def __dir__() -> list[str]:
    return sorted({*globals(), *_homes})
