"""Calls in an async function that block its event loop, found in its source.

Only what is certain counts: a call of a function that is known to block, by a name that leads there, in the body
itself. What is passed on, as in `run_blocking(time.sleep, 1)`, is no call, and what a nested function does may happen
anywhere.
"""

import ast
import builtins
import inspect
import sys
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

_VERBS: Final = ("delete", "get", "head", "options", "patch", "post", "put", "request")
_BLOCKING: Final[Mapping[str, tuple[str, ...]]] = {
    "builtins": ("input",),
    "httpx": (*_VERBS, "stream"),
    "os": ("system", "wait", "waitpid"),
    "requests": _VERBS,
    "socket": ("create_connection", "getaddrinfo", "gethostbyaddr", "gethostbyname"),
    "subprocess": ("call", "check_call", "check_output", "getoutput", "getstatusoutput", "run"),
    "time": ("sleep",),
    "urllib.request": ("urlopen", "urlretrieve"),
}


def blocking_calls(function: Callable[..., Any]) -> Iterator[tuple[int, str]]:
    """Yield the line in its file, and the name, of each call that blocks.

    Args:
        function: An async function. One whose source cannot be read has no such calls.
    """
    function = inspect.unwrap(function)
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return
    definition = tree.body[0]
    if not isinstance(definition, ast.AsyncFunctionDef):
        return
    names = _Names(function, definition)
    for call in _own(definition, ast.Call):
        name = names.meant_by(call.func)
        module, _, attribute = (name or "").rpartition(".")
        if attribute in _BLOCKING.get(module, ()) and not _is_nap_of_nothing(call):
            yield function.__code__.co_firstlineno + call.lineno - 1, ast.unparse(call.func)


class _Names:
    """What the names in a function's body stand for."""

    def __init__(self, function: Any, definition: ast.AsyncFunctionDef) -> None:
        self._function = function
        code = function.__code__
        # A comprehension has variables of its own.
        assigned = {name.id for name in _own(definition, ast.Name) if isinstance(name.ctx, ast.Store)}
        self._locals = {*code.co_varnames, *code.co_cellvars, *code.co_freevars, *assigned}
        self._imported: dict[str, str] = {}
        for statement in _own(definition, ast.Import):
            for alias in statement.names:
                top = alias.name.partition(".")[0]
                self._imported[alias.asname or top] = alias.name if alias.asname else top
        for statement in _own(definition, ast.ImportFrom):
            for alias in statement.names:
                self._imported[alias.asname or alias.name] = f"{statement.module}.{alias.name}"

    def meant_by(self, node: ast.expr) -> str | None:
        """Return the full name of the function that an expression names, or None where that is not certain."""
        path: list[str] = []
        while isinstance(node, ast.Attribute):
            path.insert(0, node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return None
        if node.id in self._imported:
            return ".".join([self._imported[node.id], *path])
        value = None if node.id in self._locals else self._value(node.id)
        if isinstance(value, types.ModuleType):
            return ".".join([value.__name__, *path])
        return None if path else _full_name(value)

    def _value(self, name: str) -> Any:
        names: dict[str, Any] = self._function.__globals__
        return names.get(name, getattr(builtins, name, None))


def _full_name(value: Any) -> str | None:
    """Return the name of a function that blocks; gevent and eventlet may have put their own in its place."""
    for module, attributes in _BLOCKING.items():
        for attribute in attributes:
            if value is not None and value is getattr(sys.modules.get(module), attribute, None):
                return f"{module}.{attribute}"
    return None


def _own(definition: ast.AsyncFunctionDef, kind: Any) -> Iterator[Any]:
    """Yield the nodes of a kind in a function's body, those in nested functions and classes left out."""
    nodes: list[ast.AST] = list(reversed(definition.body))
    while nodes:
        node = nodes.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            continue
        if isinstance(node, kind):
            yield node
        nodes.extend(reversed(list(ast.iter_child_nodes(node))))


def _is_nap_of_nothing(call: ast.Call) -> bool:
    return bool(call.args) and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0
