"""Codec: turns values of one annotation into plain data, and plain data into such values again.

It is pydantic's `TypeAdapter` behind it, compiled once. Without pydantic there are no codecs, and values stay as they
are. An annotation for which pydantic has no schema has no codec either.
"""

import functools
import importlib
import importlib.util
import inspect
import types
import typing
from collections import Counter
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

from pico_celery_core.one_line import one_line

# Anything may stand there.
_UNCHECKED: Final = (Any, object, None, type(None), dict, list)

# Checked by the type alone, which costs next to nothing.
_SCALARS: Final[dict[Any, tuple[type, ...]]] = {
    bool: (bool,),
    float: (float, int),
    int: (int,),
    str: (str,),
}

# Celery's JSON carries these by itself, and other Celery programs expect them so.
_CARRIED: Final = frozenset({*_SCALARS, *_UNCHECKED, date, datetime, time, Decimal, UUID})

_BY_IDENTITY: Final[Any] = object.__eq__

# So many problems of one value are told.
_MOST_PROBLEMS: Final = 3


class MisfitError(Exception):
    """A value does not fit an annotation.

    Args:
        problem: What is wrong with it, with the path inside the value.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class LossyError(Exception):
    """A value fits its annotation, but JSON does not give it back as it was."""


class Codec:
    """Turns values of one annotation into plain data and back.

    Args:
        annotation: The annotation, evaluated.

    Example:
        >>> from datetime import timedelta
        >>> codec = Codec(list[timedelta])
        >>> codec.dump([timedelta(minutes=5)])
        ['PT5M']
        >>> codec.load(["PT5M"])
        [datetime.timedelta(seconds=300)]
    """

    __slots__ = ("_adapter", "_is_carried", "annotation", "exact")

    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation
        # A value of one of these types is left as it is.
        self.exact = _exact(annotation)
        self._is_carried = _is_carried(annotation)
        # That of a scalar is made only for a value of another type.
        self._adapter: Any = None if self.exact else _adapter(annotation)

    def __reduce__(self) -> tuple[Any, ...]:
        return codec_of, (self.annotation,)

    @property
    def name(self) -> str:
        """The annotation, as it is written."""
        return shown(self.annotation)

    def load(self, value: Any, is_sensitive: bool = False) -> Any:
        """Return the value that plain data stands for; a value of the annotation itself is taken as it is.

        Args:
            value: What a message or a result backend has carried.
            is_sensitive: Whether errors must not say anything of the value.

        Raises:
            MisfitError: If it does not fit the annotation.
        """
        if type(value) in self.exact:
            return value
        try:
            return self._validated(value)
        except Exception as error:  # noqa: BLE001  # a type's own validators may raise anything
            raise MisfitError(_problem(error, self.name, is_sensitive)) from None

    def dump(self, value: Any, is_sensitive: bool = False) -> Any:
        """Return a value as data that Celery's JSON carries, and that `load` makes the same value of.

        Args:
            value: The value.
            is_sensitive: Whether errors must not say anything of the value.

        Raises:
            MisfitError: If it does not fit the annotation.
            LossyError: If JSON would not give it back as it was.
        """
        if type(value) in self.exact:
            return value
        value = self.load(value, is_sensitive)
        if self._is_carried:
            return value
        problem: Exception | None = None
        for by_alias in (True, False):
            try:
                dumped = self._adapter.dump_python(
                    value, mode="json", by_alias=by_alias, round_trip=True, warnings="error"
                )
                if _is_same(self._adapter.validate_python(dumped), value):
                    return dumped
            except Exception as error:  # noqa: BLE001  # a type's own serializers and validators run here
                problem = problem or error
        # What pydantic says shows values.
        raise LossyError from None if is_sensitive else problem

    def schema(self, mode: str) -> dict[str, Any] | None:
        """Return the JSON schema of the annotation, or None where pydantic has none.

        Args:
            mode: "serialization" for what is sent, "validation" for what is taken.
        """
        try:
            schema: dict[str, Any] = self.compile().json_schema(mode=mode)
        except Exception:  # noqa: BLE001  # of a type's own validators, for instance
            return None
        return schema

    def _validated(self, value: Any) -> Any:
        return self.compile().validate_python(value)

    def compile(self) -> Any:
        """Make pydantic's adapter now, which a scalar's codec makes only for a value of another type. Return it."""
        if self._adapter is None:
            self._adapter = _adapter(self.annotation)
        return self._adapter


def codec_of(annotation: Any) -> Codec | None:
    """Return what turns values of an annotation into plain data and back; None where there is nothing to do.

    Args:
        annotation: The annotation, evaluated as far as it can be.

    Example:
        >>> codec_of(dict) is None
        True
        >>> codec_of(set[int]).dump({3})
        [3]
    """
    try:
        return _cached(annotation)
    except TypeError:  # it cannot be hashed
        return _made(annotation)


def unfinished(annotation: Any) -> tuple[str, bool] | None:
    """Return why pydantic cannot make use of an annotation whose own names are found; None if it can, or knows it not.

    Args:
        annotation: The annotation, evaluated.

    Returns:
        What is wrong, and whether no value fits then.
    """
    errors: Any = importlib.import_module("pydantic.errors")
    try:
        adapter = _adapter(annotation)
        adapter.rebuild(raise_errors=True)
    except errors.PydanticUndefinedAnnotation as error:
        return f"a class in it has an annotation with the name {error.name!r}, which is not defined", True
    except errors.PydanticUserError as error:
        is_old = error.code == "typed-dict-version"
        return ("before Python 3.12, pydantic takes no TypedDict of typing", False) if is_old else None
    except (TypeError, NameError, AttributeError):
        return None
    return None


def is_resolved(annotation: Any) -> bool:
    """Tell whether every name in an annotation was found.

    Example:
        >>> is_resolved(list[int]), is_resolved("Order")
        (True, False)
    """
    if isinstance(annotation, (str, typing.ForwardRef)):
        return False
    arguments = () if typing.get_origin(annotation) is typing.Literal else typing.get_args(annotation)
    return all(map(is_resolved, arguments[:1] if typing.get_origin(annotation) is typing.Annotated else arguments))


def is_plain(annotation: Any) -> bool:
    """Tell whether values of an annotation travel as they are, without a codec.

    Example:
        >>> is_plain(list[int]), is_plain(set[int])
        (True, False)
    """
    return annotation is inspect.Parameter.empty or _is_carried(annotation)


@functools.cache
def has_pydantic() -> bool:
    """Tell whether pydantic is installed."""
    return importlib.util.find_spec("pydantic") is not None


def shown(annotation: Any) -> str:
    """Return an annotation as it is written, without the modules of its classes.

    Example:
        >>> shown(list[int | None]), shown(dict[str, Decimal])
        ('list[int | None]', 'dict[str, Decimal]')
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return shown(arguments[0])
    if origin is typing.Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(shown, arguments))
    if origin is not None:
        return f"{shown(origin)}[{', '.join(map(shown, arguments))}]"
    if isinstance(annotation, type):
        return "None" if annotation is type(None) else annotation.__qualname__
    return "..." if annotation is ... else str(annotation).removeprefix("typing.")


@functools.lru_cache(maxsize=1024)
def _cached(annotation: Any) -> Codec | None:
    return _made(annotation)


def _made(annotation: Any) -> Codec | None:
    if not has_pydantic() or not is_resolved(annotation):
        return None
    if _is_hashable(annotation) and annotation in {*_UNCHECKED, inspect.Parameter.empty}:
        return None
    if isinstance(annotation, typing.TypeVar):
        return None
    # These do not need pydantic before a value of another type comes.
    if _is_hashable(annotation) and annotation in _SCALARS:
        return Codec(annotation)
    not_possible: Any = importlib.import_module("pydantic.errors").PydanticUserError
    try:
        return Codec(annotation)
    except (not_possible, TypeError, NameError, AttributeError):
        # A class that pydantic knows nothing of is left to the serializer.
        return None


def _adapter(annotation: Any) -> Any:
    # Imported when it is needed: it takes longer than all of pico-celery.
    return importlib.import_module("pydantic").TypeAdapter(annotation)


def _is_hashable(annotation: Any) -> bool:
    try:
        hash(annotation)
    except TypeError:
        return False
    return True


def _exact(annotation: Any) -> tuple[type, ...]:
    """Return the types whose values need no look at them, as of scalars, and of scalars in a union of plain types."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        members = typing.get_args(annotation)
        is_simple = _is_carried(annotation) and all(typing.get_origin(each) is not typing.Annotated for each in members)
        return tuple(each for each in members if each in (*_SCALARS, type(None))) if is_simple else ()
    return _SCALARS.get(annotation, ()) if _is_hashable(annotation) else ()


def _is_carried(annotation: Any) -> bool:
    """Tell whether Celery's JSON carries all that an annotation allows, as it is."""
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is typing.Annotated:
        return _is_carried(arguments[0])
    if origin in (typing.Union, types.UnionType, list):
        return all(map(_is_carried, arguments))
    if origin is dict:
        return arguments[0] is str and _is_carried(arguments[1])
    if origin is typing.Literal:
        return all(type(value) in _CARRIED for value in arguments)
    if isinstance(annotation, typing.NewType):
        return _is_carried(annotation.__supertype__)
    return origin is None and _is_hashable(annotation) and annotation in _CARRIED


def _is_same(one: Any, other: Any) -> bool:
    """Tell whether two values are equal and of the same types, at every depth: an enum's member is not its number."""
    kind: Any = type(one)
    if kind is not type(other):
        # A dataclass may hold an int where it declares a float.
        return {kind, type(other)} == {int, float} and bool(one == other)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_is_same(value, other[key]) for key, value in one.items())
    if isinstance(one, AbstractSet):
        return bool(one == other) and Counter(map(type, one)) == Counter(map(type, other))
    attributes = getattr(one, "__dict__", None)
    if attributes and not isinstance(one, Enum):
        is_equal = kind.__eq__ is _BY_IDENTITY or bool(one == other)
        return is_equal and _is_same(attributes, vars(other))
    return bool(one == other)


def _problem(error: Exception, expected: str, is_sensitive: bool) -> str:
    """Say what is wrong with a value, by its paths, without showing the value."""
    if is_sensitive:  # keys of a dict stand in a path, and values in what a validator says
        return f"does not fit (expected {expected})"
    describe: Any = getattr(error, "errors", None)
    details: Any = ()
    if describe is not None:
        details = describe(include_url=False, include_input=False, include_context=False)
    told = []
    for detail in details:
        path = _path(detail["loc"])
        text = str(detail["msg"])
        told.append(f"{path}: {text}" if path else text)
    if not told:
        told = [f"{type(error).__name__}: {error}"]
    more = f"; and {len(told) - _MOST_PROBLEMS} more" if len(told) > _MOST_PROBLEMS else ""
    return one_line(f"{'; '.join(told[:_MOST_PROBLEMS])}{more} (expected {expected})")


def _path(loc: Iterable[Any]) -> str:
    """Return where in a value something is.

    Example:
        >>> _path(("items", 2, "price"))
        'items[2].price'
    """
    path = ""
    for part in loc:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".")
