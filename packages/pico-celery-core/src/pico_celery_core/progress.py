"""How far a task says it is: what a handler stores and a client reads."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # whose type variables may have a default

    _D = TypeVar("_D", default=Any)
else:
    from typing import TypeVar

    _D = TypeVar("_D")

PROGRESS: Final = "PROGRESS"
"""The state in which a task's progress stands in the result backend."""


@dataclass(frozen=True, slots=True)
class Progress(Generic[_D]):
    """How far a task is.

    Args:
        current: What is done.
        total: What there is to do, if that is known.
        message: What the task is doing.
        details: What else the handler tells.

    Example:
        >>> Progress(3, 4, "drawing").fraction
        0.75
    """

    current: float
    total: float | None = None
    message: str = ""
    details: _D | None = None

    @property
    def fraction(self) -> float | None:
        """The part that is done, from 0 to 1; None where the total is not known."""
        return self.current / self.total if self.total else None

    def as_meta(self) -> dict[str, Any]:
        """Return what is stored in the result backend."""
        meta = {"current": self.current, "total": self.total, "message": self.message}
        return meta if self.details is None else {**meta, "details": self.details}

    @classmethod
    def from_meta(cls, meta: Any) -> "Progress[Any]":
        """Read what `as_meta` has written; of anything else, what can be made of it."""
        values: Mapping[str, Any] = meta if isinstance(meta, Mapping) else {}
        return cls(values.get("current") or 0, values.get("total"), values.get("message") or "", values.get("details"))
