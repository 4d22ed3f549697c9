"""JSON schemas of annotations, and whether what one describes is what another takes.

They are compared for mistakes only: what is not understood is taken to fit.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from pico_celery_core.values.codec import codec_of, is_plain

Schema = Mapping[str, Any]

_WIDER: Final = {("integer", "number")}


def schema_of(annotation: Any, mode: Literal["serialization", "validation"]) -> dict[str, Any] | None:
    """Return the JSON schema of an annotation; None where its values travel as they are, and without pydantic.

    Args:
        annotation: The annotation, evaluated.
        mode: "serialization" for what is sent, "validation" for what is taken.

    Example:
        >>> schema_of(set[int], "validation")["items"]
        {'type': 'integer'}
    """
    codec = None if is_plain(annotation) else codec_of(annotation)
    return None if codec is None else codec.schema(mode)


def misfit(sent: Schema, taken: Schema) -> str:
    """Return why values of one schema do not fit another, with the path in them; an empty string if they do.

    Args:
        sent: The schema of what is sent.
        taken: The schema of what is taken.

    Example:
        >>> sent = {"type": "object", "properties": {"weight": {"type": "number"}}}
        >>> misfit(sent, {**sent, "required": ["weight", "colour"]})
        "'colour' is required, and is not sent"
    """
    return next(_Comparison(sent, taken).misfits(sent, taken), "")


class _Comparison:
    """Compares two schemas, whose references are to definitions of their own.

    Args:
        sent: The schema of what is sent.
        taken: The schema of what is taken.
    """

    def __init__(self, sent: Schema, taken: Schema) -> None:
        self._sent = sent
        self._taken = taken
        # The pairs of definitions that are being compared: a model may have itself in it.
        self._seen: set[tuple[Any, Any]] = set()

    def misfits(self, sent: Schema, taken: Schema, path: str = "") -> Iterator[str]:
        """Yield why values of one part of the schemas do not fit the other."""
        pair = sent.get("$ref"), taken.get("$ref")
        if any(pair):
            if pair in self._seen:
                return
            self._seen.add(pair)
        sent, taken = _resolved(sent, self._sent), _resolved(taken, self._taken)
        for alternative in _alternatives(sent):
            if alternative is not sent:
                yield from self.misfits(alternative, taken, path)
            elif _alternatives(taken) == [taken]:
                yield from self._differences(sent, taken, path)
            else:
                tried = [next(self.misfits(sent, other, path), "") for other in _alternatives(taken)]
                if all(tried):
                    yield tried[0]

    def _differences(self, sent: Schema, taken: Schema, path: str) -> Iterator[str]:
        here = f"{path}: " if path else ""
        kind, wanted = sent.get("type"), taken.get("type")
        if isinstance(kind, str) and isinstance(wanted, str) and kind != wanted and (kind, wanted) not in _WIDER:
            yield f"{here}{kind} is sent, and {wanted} is expected"
            return
        values, allowed = _values(sent), _values(taken)
        if values and allowed and not values <= allowed:
            yield f"{here}{', '.join(sorted(values - allowed))} may be sent, and is not expected"
        properties, expected = sent.get("properties"), taken.get("properties")
        if isinstance(properties, Mapping) and isinstance(expected, Mapping):
            for name in taken.get("required", ()):
                if name not in properties:
                    yield f"{here}{name!r} is required, and is not sent"
            if taken.get("additionalProperties") is False:
                for name in sorted(properties.keys() - expected.keys()):
                    yield f"{here}{name!r} is sent, and is not expected"
            for name in properties:
                if name in expected:
                    yield from self.misfits(properties[name], expected[name], f"{path}.{name}" if path else name)
        # The items of a list, and the values of a dict.
        for part in ("items", "additionalProperties"):
            if isinstance(sent.get(part), Mapping) and isinstance(taken.get(part), Mapping):
                yield from self.misfits(sent[part], taken[part], f"{path}[]")
        places = zip(sent.get("prefixItems", ()), taken.get("prefixItems", ()), strict=False)  # of a tuple
        for index, (item, other) in enumerate(places):
            yield from self.misfits(item, other, f"{path}[{index}]")


def _alternatives(schema: Schema) -> list[Schema]:
    found = schema.get("anyOf") or schema.get("oneOf")
    return list(found) if found else [schema]


def _resolved(schema: Schema, root: Schema) -> Schema:
    name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    definition: Schema = root.get("$defs", {}).get(name, {})
    return definition if "$ref" in schema else schema


def _values(schema: Schema) -> frozenset[str]:
    values = [schema["const"]] if "const" in schema else schema.get("enum", ())
    return frozenset(map(repr, values))
