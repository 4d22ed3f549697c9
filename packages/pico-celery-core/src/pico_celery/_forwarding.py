"""Forwards names to the package that has them, which is imported when one is asked for."""

import ast
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def homes_of(file: str) -> dict[str, str]:
    """Return the names that the stub file of a module imports, and where each is to be found.

    Args:
        file: The module's `__file__`.
    """
    tree = ast.parse(Path(file).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {name.name: node.module or "" for node in imports for name in node.names}


def forward(module: dict[str, Any], homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Make a module's `__getattr__`.

    Args:
        module: The module's globals.
        homes: Where each name is to be found.

    Returns:
        The function. For a name whose package is missing it raises an ImportError that says what to install.
    """

    def getattribute(name: str) -> Any:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {module['__name__']!r} has no attribute {name!r}")
        package = home.partition(".")[0]
        if find_spec(package) is None:
            distribution = package.replace("_", "-")
            raise ImportError(f"{name} needs {distribution}: pip install {distribution}", name=package)
        value = getattr(import_module(home), name)
        module[name] = value
        return value

    return getattribute
