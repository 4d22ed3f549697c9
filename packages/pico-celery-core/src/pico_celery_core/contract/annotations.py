"""Whether a value that one annotation describes may arrive where another stands.

It looks for mistakes, so whatever it does not understand is accepted. What a message may turn into something else on
its way, a tuple into a list for instance, is accepted as well.
"""

import inspect
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

_UNKNOWN: Final = (Any, object, inspect.Parameter.empty)
_NUMBERS: Final = (int, float, complex)


def accepts(wanted: Any, given: Any) -> bool:
    """Tell whether every kind of value that `given` describes may be meant by `wanted`.

    Args:
        wanted: The annotation of the receiver.
        given: The annotation of the sender.

    Example:
        >>> accepts(float | None, int), accepts(list[str], tuple[str, ...]), accepts(int, str)
        (True, True, False)
    """
    return all(any(_is_related(kind, other) for kind in _kinds(wanted)) for other in _kinds(given))


def _kinds(annotation: Any) -> list[Any]:
    """Return what a value may be, one by one: the members of a union, the types of literals."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return [kind for member in typing.get_args(annotation) for kind in _kinds(member)]
    if origin is typing.Annotated:
        return _kinds(typing.get_args(annotation)[0])
    if origin is typing.Literal:
        return list({type(value) for value in typing.get_args(annotation)})
    if isinstance(annotation, typing.NewType):
        return _kinds(annotation.__supertype__)
    if type(annotation).__name__ == "TypeAliasType":  # of Python 3.12
        return _kinds(annotation.__value__)
    return [type(None) if annotation is None else annotation]


def _is_related(wanted: Any, given: Any) -> bool:
    if wanted in _UNKNOWN or given in _UNKNOWN:
        return True
    one, other = _class(wanted), _class(given)
    if not (inspect.isclass(one) and inspect.isclass(other)):
        return True
    same_shape = _shape(one) is not None and _shape(one) is _shape(other)
    try:
        if not (same_shape or issubclass(one, other) or issubclass(other, one) or _widens(one, other)):
            return False
    except TypeError:  # a protocol, for instance
        return True
    items, other_items = typing.get_args(wanted), typing.get_args(given)
    if not same_shape or tuple in (one, other) or len(items) != len(other_items):
        return True
    return all(map(accepts, items, other_items))


def _class(annotation: Any) -> Any:
    return dict if typing.is_typeddict(annotation) else typing.get_origin(annotation) or annotation


def _widens(wanted: type, given: type) -> bool:
    """Tell whether an int stands for a float."""
    return wanted in _NUMBERS and given in _NUMBERS and _NUMBERS.index(given) < _NUMBERS.index(wanted)


def _shape(cls: type) -> type | None:
    """Return what JSON knows of a container: an object or an array."""
    if issubclass(cls, Mapping):
        return dict
    is_text = issubclass(cls, (str, bytes, bytearray))
    is_array = issubclass(cls, Collection) or (issubclass(cls, Iterable) and inspect.isabstract(cls))
    return list if is_array and not is_text else None
