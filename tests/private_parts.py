"""Finds what the packages use of other libraries though it is private."""

import ast
from collections.abc import Iterator
from pathlib import Path


def private_parts(packages: Path) -> dict[str, set[str]]:
    """Return the private names of others that each module uses; modules that use none are left out.

    A private name is one with a leading underscore that the module does not define itself. One that is used through
    `self` may also be defined by a base class anywhere in the packages. Names that a class of ours overrides are not
    found: whether these still exist, type checkers and tests tell.

    Args:
        packages: The folder of the packages.
    """
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(packages.glob("*/src/**/*.py"))}
    defined = {path: set(_defined(tree)) for path, tree in trees.items()}
    inherited = set().union(*defined.values())
    found = {}
    for path, tree in trees.items():
        lines = path.read_text(encoding="utf-8").splitlines()
        names = {name for node in ast.walk(tree) for name in _used(node, lines, defined[path], inherited)}
        if names:
            found[path.as_posix().partition("/src/")[2]] = names
    return found


def _defined(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.Name(ctx=ast.Store()):
                yield node.id
            case ast.Attribute(ctx=ast.Store(), value=ast.Name(id="self" | "cls")):
                yield node.attr
            case ast.arg():
                yield node.arg
            case ast.alias(asname=str(name)):
                yield name


def _used(node: ast.AST, lines: list[str], defined: set[str], inherited: set[str]) -> Iterator[str]:
    match node:
        case ast.Attribute(attr=name) if _is_private(name):
            is_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls") and name in inherited
            is_marked = "SLF001" in lines[(node.end_lineno or node.lineno) - 1]
            if (name not in defined and not is_own) or (is_marked and name not in defined):
                yield name
        case ast.ImportFrom(module=str(module)) if not module.startswith("pico_celery"):
            yield from (alias.name for alias in node.names if _is_private(alias.name))
            if any(_is_private(part) for part in module.split(".")):
                yield module
        case ast.Constant(value=str(name)) if _is_private(name) and name.isidentifier() and name not in defined:
            if not name.startswith("_pico_celery") and name not in ("_", "_timeout"):
                yield name


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")
