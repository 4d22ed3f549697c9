"""What tasks should neither raise nor return, by name."""

import asyncio
import sys
from typing import Any, NoReturn

import gevent


class CustomBaseError(BaseException):
    pass


class NeedsArgumentsError(Exception):
    """Can be rebuilt neither from its `args` nor by pickle."""

    def __init__(self, code: int, *, reason: str) -> None:
        super().__init__(f"{reason} ({code})")
        self.code = code


class HoldsLockError(Exception):
    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.callback = lambda: None
        self.frame = sys._getframe()


class UnencodableArgumentError(Exception):
    def __init__(self) -> None:
        super().__init__(object(), lambda: None, {1, 2})


class SilentError(Exception):
    """Fails when it is shown."""

    def __str__(self) -> NoReturn:
        raise RuntimeError("no str")

    def __repr__(self) -> NoReturn:
        raise RuntimeError("no repr")


class Unshowable:
    def __repr__(self) -> NoReturn:
        raise RuntimeError("no repr")


BASE_EXCEPTIONS = {
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "GreenletExit": gevent.GreenletExit,
    "Timeout": lambda: gevent.Timeout(1),
    "CustomBaseError": lambda: CustomBaseError("of our own"),
    "CancelledError": lambda: asyncio.CancelledError("by itself"),
    "BaseExceptionGroup": lambda: BaseExceptionGroup("several", [SystemExit(1), ValueError("x")]),
}
EXCEPTIONS = {
    "NeedsArguments": lambda: NeedsArgumentsError(7, reason="why not"),
    "HoldsLock": lambda: HoldsLockError("holds what cannot be pickled"),
    "UnencodableArgument": UnencodableArgumentError,
    "Silent": SilentError,
    "Unshowable": lambda: ValueError(Unshowable()),
    "StopIteration": lambda: StopIteration(5),
    "StopAsyncIteration": StopAsyncIteration,
    "ExceptionGroup": lambda: ExceptionGroup("several", [ValueError("x"), SilentError()]),
    "MemoryError": MemoryError,
    "UnicodeDecodeError": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
    "Huge": lambda: ValueError("x" * 5_000_000),
    "Surrogate": lambda: ValueError("\ud800"),
    "Local": lambda: type("Local", (Exception,), {})("of a class that nobody can import"),
}


def _circular() -> list[Any]:
    circle: list[Any] = []
    circle.append(circle)
    return circle


def _deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


RESULTS = {
    "object": object,
    "nested": lambda: {"orders": [1, {"customer": object()}]},
    "circular": _circular,
    "deep": lambda: _deep(100_000),
    "keys": lambda: {(1, 2): 3},
    "class": lambda: CustomBaseError,
    "unshowable": Unshowable,
    "exception": lambda: ValueError("returned"),
}
