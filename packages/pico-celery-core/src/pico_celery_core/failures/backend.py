"""Result backends that store and give back exceptions in full: Celery's own, each with what is missing on top."""

import functools
import sys
from collections.abc import Mapping
from typing import Any, Final

from celery import Celery
from celery.app import backends
from celery.backends.base import Backend, unpickle_backend
from celery.exceptions import SecurityError
from celery.utils.serialization import UnpickleableExceptionWrapper
from kombu.exceptions import EncodeError

from pico_celery_core.connections import connection_hint
from pico_celery_core.errors import ResultBackendError
from pico_celery_core.failures.description import Describer
from pico_celery_core.failures.encoding import ResultEncodingError, unencodable
from pico_celery_core.failures.restoration import restore, show_traceback

_LONGEST_PLACE: Final = 200


class FailuresInFull:
    """Comes before one of Celery's result backends.

    Exceptions keep their class, text, arguments, attributes, notes, causes and members; callers also see where they
    were raised in the worker. What is stored is what Celery stores, with a key more, so that plain Celery reads it.
    """

    plain_backend: Any
    """Celery's own."""

    def mark_as_done(self, task_id: str, result: Any, request: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Store that a task has succeeded, and with what.

        Raises:
            ResultEncodingError: If the result cannot be encoded.
        """
        backend: Any = super()
        try:
            return backend.mark_as_done(task_id, result, request, *args, **kwargs)
        except EncodeError:
            own: Any = self
            place, value = unencodable(result, own.encode)
            error = ResultEncodingError(
                str(getattr(request, "task", task_id)), place[:_LONGEST_PLACE], type(value).__qualname__, own.serializer
            )
        raise error

    def on_connection_error(self, max_retries: int | None, exc: Exception, intervals: Any, retries: int) -> Any:
        """Tell after how long to connect again. Celery's backend for Redis asks after each attempt that has failed.

        Raises:
            ResultBackendError: If the server refuses user or password. Celery would try twenty times, for 19 seconds.
        """
        backend: Any = super()
        refuse_if_refused(exc, backend.as_uri())
        return backend.on_connection_error(max_retries, exc, intervals, retries)

    def prepare_exception(self, exc: BaseException, serializer: str | None = None) -> Any:
        """Return what is stored of an exception."""
        backend: Any = super()
        prepared = backend.prepare_exception(exc, serializer)
        if not isinstance(prepared, dict):  # with pickle, the exception itself
            return prepared
        return Describer(self._is_plain).describe(_raised(exc))

    def exception_to_python(self, exc: Any) -> Any:
        """Return the exception that was stored.

        Raises:
            celery.exceptions.SecurityError: If what is stored as an exception's class is not one.
        """
        backend: Any = super()
        if isinstance(exc, Mapping) and exc:
            try:
                return restore(exc)
            except SecurityError:
                raise
            except Exception:  # noqa: BLE001  # it was stored by somebody else, of whom Celery may know more
                return backend.exception_to_python(exc)
        return backend.exception_to_python(exc)

    def meta_from_decoded(self, meta: Any) -> Any:
        """Return what is known of a task, with an exception in the place of what was stored of it."""
        backend: Any = super()
        meta = backend.meta_from_decoded(meta)
        traceback = meta.get("traceback")
        if isinstance(meta.get("result"), BaseException) and isinstance(traceback, str) and traceback:
            show_traceback(meta["result"], traceback)
        return meta

    def __reduce__(self, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        backend: Any = super()
        _, (_, *arguments) = backend.__reduce__(args, kwargs)
        return _unpickle, (type(self).plain_backend, *arguments)

    def _is_plain(self, value: Any) -> bool:
        backend: Any = self
        try:
            backend.encode(value)
        except Exception:  # noqa: BLE001  # a serializer may raise anything
            return False
        return True


def refuse_if_refused(error: BaseException, url: str) -> None:
    """Raise what says that a result backend refuses user or password, if it does.

    Args:
        error: The error of an attempt to connect.
        url: The backend's, without its password.

    Raises:
        ResultBackendError: If it does.
    """
    if type(error).__name__ == "AuthenticationError":  # redis-py's, which need not be there
        problem = str(error)
        raise ResultBackendError(url, problem, connection_hint(problem, url, "backend_url")) from error


def store_failures_in_full(app: Celery) -> None:
    """Let an app's result backend store and give back exceptions in full, whichever it is.

    A backend that the app has made already stays as it is. The app's settings are not read here.

    Args:
        app: The app.

    Example:
        >>> from celery import Celery
        >>> app = Celery(backend="cache+memory://", set_as_current=False)
        >>> store_failures_in_full(app)
        >>> isinstance(app.backend, FailuresInFull)
        True
    """
    changed: Any = app
    if not isinstance(changed.backend_cls, _Choice):
        changed.backend_cls = _Choice(changed.backend_cls)


class _Choice:
    """Makes the result backend that an app's settings choose, when the app asks for it first.

    Args:
        chosen: What was chosen instead of the settings, as `Celery.backend_cls`.
    """

    def __init__(self, chosen: Any) -> None:
        self._chosen = chosen

    def __call__(self, app: Celery, url: str | None = None) -> Any:  # noqa: ARG002  # Celery finds none beside this
        cls, address = backends.by_url(self._chosen or app.conf.result_backend, app.loader)
        return in_full(cls)(app=app, url=address)

    def __reduce__(self) -> tuple[Any, ...]:
        # Celery takes what comes with an app from another process for its setting.
        return _same, (self._chosen,)


def _same(chosen: Any) -> Any:
    return chosen


@functools.cache
def in_full(cls: Any) -> Any:
    """Return a backend's class with what is missing on top, under the same name."""
    if not issubclass(cls, Backend) or issubclass(cls, FailuresInFull):
        return cls
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls.__name__, (FailuresInFull, cls), {**names, "plain_backend": cls})


def _unpickle(cls: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    return unpickle_backend(in_full(cls), args, kwargs)


def _raised(exc: BaseException) -> BaseException:
    """Return what a task has raised.

    Where pickle cannot do with that, Celery's tracer goes on with something nearby: an exception of a base class, or a
    wrapper with the name of the class. What was raised is still being handled then.
    """
    raised = sys.exc_info()[1]
    if isinstance(exc, UnpickleableExceptionWrapper):
        is_nearby = exc.exc_cls_name == type(raised).__name__
    else:
        is_nearby = isinstance(raised, type(exc)) and raised.args == exc.args
    return raised if raised is not None and is_nearby else exc
