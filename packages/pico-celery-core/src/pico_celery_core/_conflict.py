"""Tells a clash with the older distribution `pico-celery`, which installs the same import name `pico_celery`."""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

# A module that pico-celery 0.2.4 has in its `pico_celery` and ours has not; and what stands in our `__init__.py` only.
_FOREIGN_MODULE: Final = "_version.py"
_OWN_MARK: Final = b"pico_celery_core"


def refuse_clash(package: str = "pico_celery") -> None:
    """Raise ImportError where the other distribution has written into our front door, or taken from it.

    Whichever was installed last has written `pico_celery/__init__.py`; what is left of the other shows beside it. Where
    the other was uninstalled since, that file is gone.
    """
    spec = find_spec(package)
    for folder in map(Path, (spec and spec.submodule_search_locations) or ()):
        front_door = folder / "__init__.py"
        torn = spec is not None and spec.origin is None
        foreign = front_door.exists() and _OWN_MARK not in front_door.read_bytes()
        if torn or foreign or (folder / _FOREIGN_MODULE).exists():
            raise ImportError(
                "The distribution pico-celery was installed beside pico-celery-core. "
                f"Both bring the package {package}, so their files are mixed. "
                "`pip install --upgrade pico-celery` brings its successor, with client and worker. "
                "Or uninstall both, then install what you need: "
                "pip uninstall pico-celery pico-celery-core && pip install pico-celery-client pico-celery-worker"
            )
