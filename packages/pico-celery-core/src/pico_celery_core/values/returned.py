"""ReturnedValue: what a stub or a handler declares to return."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from pico_celery_core.errors import ResultTypeError
from pico_celery_core.values.codec import Codec, LossyError, MisfitError, codec_of


@dataclass(frozen=True, slots=True)
class ReturnedValue:
    """Turns a task's value into plain data and back, by the return annotation of its stub or its handler.

    Args:
        task: The task's name.
        codec: The annotation's.
        where: Who declares it: "stub" or "handler".

    Example:
        >>> from datetime import timedelta
        >>> took = ReturnedValue.of("reports.build", timedelta)
        >>> took.load(took.dump(timedelta(seconds=90)))
        datetime.timedelta(seconds=90)
    """

    task: str
    codec: Codec
    where: str = "stub"

    @classmethod
    def of(cls, task: str, annotation: Any, where: str = "stub") -> Self | None:
        """Return what an annotation declares; None where it declares nothing, or no value, or anything."""
        codec = codec_of(annotation)
        return None if codec is None else cls(task, codec, where)

    def load(self, value: Any) -> Any:
        """Return the value that was stored as plain data.

        Raises:
            ResultTypeError: If it does not fit the annotation.
        """
        return self._by(self.codec.load, value)

    def dump(self, value: Any) -> Any:
        """Return a value as plain data.

        Raises:
            ResultTypeError: If it does not fit the annotation, or would not arrive as it is.
        """
        return self._by(self.codec.dump, value)

    def _by(self, convert: Callable[[Any], Any], value: Any) -> Any:
        try:
            return convert(value)
        except MisfitError as misfit:
            raise ResultTypeError(self.task, self.codec.name, misfit.problem, self.where) from None
        except LossyError as lossy:
            problem = f"a {type(value).__qualname__} does not round-trip through JSON"
            raise ResultTypeError(self.task, self.codec.name, problem, self.where) from lossy.__cause__


def is_typed(app: Any, option: bool | None = None) -> bool:
    """Tell whether values become what the annotations say.

    Args:
        app: The app, whose setting `pico_typed_values` holds where the option says nothing.
        option: The option `typed` of a stub or a task.
    """
    return bool(app.conf.get("pico_typed_values", True)) if option is None else option
