"""The contract of a client, as a small JSON file: what it sends, for a worker in another repository to check.

A task's name and its stub's signature are all that sender and worker have to agree on. Annotations are written as text;
of that, only plain types can be compared again, and whatever else stands there is taken to fit.
"""

import datetime as dt
import decimal
import inspect
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import Any, Final, Literal

from pico_celery_core.contract.signatures import message_signature
from pico_celery_core.errors import ContractFileError
from pico_celery_core.metadata import stubs
from pico_celery_core.sensitive import is_sensitive
from pico_celery_core.values.schemas import schema_of

FORMAT: Final = 1

_PLAIN_TYPES: Final = {
    "None": type(None),
    "datetime.date": dt.date,
    "datetime.datetime": dt.datetime,
    "decimal.Decimal": decimal.Decimal,
    "uuid.UUID": uuid.UUID,
    **{cls.__name__: cls for cls in (bool, bytes, dict, float, int, list, set, str, tuple)},
}


@dataclass(frozen=True, slots=True)
class ContractEntry:
    """A stub that a client promises to send with.

    Args:
        task: The task's name.
        name: The stub's full name.
        signature: Its signature, as `message_signature` returns it.
        schemas: The JSON schemas of those of its parameters whose values are no plain JSON by their annotations.
        returned: That of the value which it expects, if it is none either.
    """

    task: str
    name: str
    signature: inspect.Signature
    schemas: Mapping[str, Any] = field(default_factory=dict)
    returned: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        return self.name


def write_contract(clients: Iterable[type]) -> str:
    """Return the contract of some clients as JSON text.

    Args:
        clients: Classes with `@send_task` stubs.

    Example:
        >>> from pico_celery import CeleryClient, celery, send_task
        >>> @celery
        ... class Greeter(CeleryClient):
        ...     @send_task("greetings.hello")
        ...     def hello(self, name: str) -> str: ...
        >>> [stub.task for stub in read_contract(write_contract([Greeter]))]
        ['greetings.hello']
    """
    promised = sorted(_promised(clients), key=lambda stub: (stub.task, stub.name))
    data = {
        "format": FORMAT,
        "stubs": [
            {
                "task": stub.task,
                "stub": stub.name,
                "parameters": [_parameter_data(parameter) for parameter in stub.signature.parameters.values()],
                "returns": _annotation_text(stub.signature.return_annotation),
                **_schema_data("returns_schema", stub.signature.return_annotation, "validation"),
            }
            for stub in promised
        ],
    }
    return json.dumps(data, indent=2) + "\n"


def read_contract(text: str) -> list[ContractEntry]:
    """Return what `write_contract` has written.

    Args:
        text: The file's content.

    Raises:
        ContractFileError: If it is not a contract, or one of a newer format.
    """
    try:
        data = json.loads(text)
        written = data["format"]
        if written != FORMAT:
            raise ContractFileError(f"its format is {written!r}, and this version reads {FORMAT}")
        return [
            ContractEntry(
                entry["task"],
                entry["stub"],
                inspect.Signature(
                    [_parameter(parameter) for parameter in entry["parameters"]],
                    return_annotation=_annotation(entry.get("returns")),
                ),
                {parameter["name"]: parameter["schema"] for parameter in entry["parameters"] if "schema" in parameter},
                entry.get("returns_schema"),
            )
            for entry in data["stubs"]
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, ContractFileError):
            raise
        raise ContractFileError(f"{type(error).__name__}: {error}") from error


class _Unknown:
    """A default that JSON cannot hold, or must not: it is there, and nothing more is known of it."""

    def __ne__(self, other: object) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "..."


def _promised(clients: Iterable[type]) -> Iterator[ContractEntry]:
    for client in clients:
        for method, spec in stubs(client):
            name = f"{client.__module__}.{client.__qualname__}.{method}"
            yield ContractEntry(spec.name, name, message_signature(getattr(client, method)))


def _parameter_data(parameter: inspect.Parameter) -> dict[str, Any]:
    data: dict[str, Any] = {
        "name": parameter.name,
        "kind": parameter.kind.name,
        "annotation": _annotation_text(parameter.annotation),
        **_schema_data("schema", parameter.annotation, "serialization"),
    }
    if parameter.default is not parameter.empty:
        data["has_default"] = True
        if _survives_json(parameter.default) and not is_sensitive(parameter.annotation):
            data["default"] = parameter.default
    return data


def _schema_data(key: str, annotation: Any, mode: Literal["serialization", "validation"]) -> dict[str, Any]:
    schema = schema_of(annotation, mode)
    return {} if schema is None else {key: schema}


def _parameter(data: Mapping[str, Any]) -> inspect.Parameter:
    default = data.get("default", _Unknown()) if data.get("has_default") else inspect.Parameter.empty
    kind = getattr(inspect.Parameter, data["kind"])
    return inspect.Parameter(data["name"], kind, default=default, annotation=_annotation(data.get("annotation")))


def _survives_json(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (TypeError, ValueError):
        return False


def _annotation_text(annotation: Any) -> str | None:
    if annotation is inspect.Parameter.empty:
        return None
    return "None" if annotation is None else inspect.formatannotation(annotation)


def _annotation(text: str | None) -> Any:
    kinds = [_PLAIN_TYPES.get(part) for part in _without_brackets(text or "").split(" | ")]
    known = [kind for kind in kinds if kind is not None]
    return reduce(or_, known) if known and len(known) == len(kinds) else inspect.Parameter.empty


def _without_brackets(text: str) -> str:
    depth = 0
    kept = []
    for character in text:
        depth += character == "["
        if not depth:
            kept.append(character)
        depth -= character == "]"
    return "".join(kept)
