"""Exceptions that do not travel by their class and arguments alone."""

import threading
from collections.abc import Callable

import pydantic


class Parcel(pydantic.BaseModel):
    order: int


class OrderError(ValueError):
    def __init__(self, order: int, *, reason: str) -> None:
        super().__init__(f"order {order}: {reason}")
        self.order = order
        self.lock = threading.Lock()


class WorkersOwnError(OrderError):
    """The caller does not know it."""


def validation() -> Exception:
    try:
        Parcel.model_validate({"order": "x"})
    except pydantic.ValidationError as error:
        return error
    raise AssertionError


def caused() -> Exception:
    error = OrderError(7, reason="sold out")
    error.__cause__ = validation()
    error.add_note("Order another.")
    return error


FAILURES: dict[str, Callable[[], Exception]] = {
    "validation": validation,
    "caused": caused,
    "group": lambda: ExceptionGroup("both", [validation(), ExceptionGroup("inner", [caused(), KeyError("k")])]),
    "file": lambda: FileNotFoundError(2, "No such file or directory", "parcel.txt"),
    "own": lambda: WorkersOwnError(7, reason="lost"),
}
