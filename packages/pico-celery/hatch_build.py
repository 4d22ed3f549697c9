"""Puts the core's package `pico_celery` into this distribution, which has no code of its own.

pico-celery 0.2 brought a package of that name itself. pip installs what a distribution needs before it removes the old
version, so that upgrading from 0.2 first writes the core's files, then removes those that have the same names. This
distribution is installed last and writes them again.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FRONT_DOOR = "pico_celery"


class FrontDoor(BuildHookInterface):  # type: ignore[type-arg]
    """Includes the package from the core's source; from its own in a source distribution."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add it to what is built, but for an editable installation, where the core's is used in its place."""
        if version == "editable":
            return
        own = Path(self.root, "core", FRONT_DOOR)
        core = Path(self.root).parent / "pico-celery-core" / "src" / FRONT_DOOR
        target = FRONT_DOOR if self.target_name == "wheel" else f"core/{FRONT_DOOR}"
        build_data["force_include"][str(own if own.exists() else core)] = target
