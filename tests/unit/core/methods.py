"""Methods of every shape, and calls of them, for property tests."""

import inspect
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

PARAMETER_NAMES = ["alpha", "beta", "gamma", "delta"]


@st.composite
def methods(draw: st.DrawFn) -> Callable[..., dict[str, Any]]:
    """Draw a method that returns the arguments it was called with."""
    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)]
    kinds = sorted(draw(st.lists(st.sampled_from(list(inspect._ParameterKind)), max_size=4)))
    defaulted = False
    for number, kind in enumerate(kinds):
        variadic = kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        if variadic and kinds[number - 1 :].count(kind) > 1 and kinds.index(kind) != number:
            continue
        default = inspect.Parameter.empty
        if not variadic and (draw(st.booleans()) or (defaulted and kind < inspect.Parameter.VAR_POSITIONAL)):
            default = f"default {number}"
            defaulted = True
        parameters.append(inspect.Parameter(PARAMETER_NAMES[number], kind, default=default))
    signature = inspect.Signature(parameters)
    names = ", ".join(f"{p.name!r}: {p.name}" for p in parameters[1:])
    namespace: dict[str, Any] = {}
    exec(f"def method{signature}: return {{{names}}}", namespace)
    return namespace["method"]


calls = st.tuples(
    st.lists(st.integers(), max_size=4).map(tuple),
    st.dictionaries(st.sampled_from([*PARAMETER_NAMES, "omega"]), st.integers(), max_size=4),
)
