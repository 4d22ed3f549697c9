"""The components of every installed package of pico-celery: what `init(modules=["pico_celery", ...])` finds.

The client and the worker each have a `components` module that ends here too, so naming any of the three packages
wires the same. What a package exports and is a component, is wired.
"""

from importlib import import_module
from importlib.util import find_spec

__all__: list[str] = []

for _package in filter(find_spec, ("pico_celery_core", "pico_celery_client", "pico_celery_worker")):
    _module = import_module(_package)
    globals().update({name: getattr(_module, name) for name in _module.__all__})
    __all__ += _module.__all__  # pyright: ignore[reportUnsupportedDunderAll]
