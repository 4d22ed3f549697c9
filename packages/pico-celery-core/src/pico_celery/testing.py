"""Test doubles: `RecordingCelery` for code that sends tasks, `TaskRunner` and `task_scope` for tasks.

The names are listed once, in `testing.pyi`, which type checkers read too.
"""

from pico_celery._forwarding import forward, homes_of

_homes = homes_of(__file__)
__all__ = sorted(_homes)  # noqa: PLE0605  # pyright: ignore[reportUnsupportedDunderAll]

# No `__dir__` names them: a container that scans this package would import all of them, in production too.
__getattr__ = forward(globals(), _homes)
