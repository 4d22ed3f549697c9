"""TaskSignature: Celery's Signature of a call that a stub has checked."""

from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, ParamSpec, TypeAlias, TypeVar, cast, overload

from celery.canvas import Signature

from pico_celery_client.interceptor import CeleryClientInterceptor
from pico_celery_client.publishing.patterns import CallMessage
from pico_celery_client.results.result import TaskResult
from pico_celery_client.stub import Stub, stub_of
from pico_celery_core.errors import ClientNotConnectedError, DeclarationError
from pico_celery_core.options import PUBLISH_TIMEOUT
from pico_celery_core.sender import INTERCEPTOR
from pico_celery_core.sensitive import MASK

if TYPE_CHECKING:
    from typing import Self, Unpack

    from pico_celery_core.options import MessageOptions

_P = ParamSpec("_P")
_R = TypeVar("_R")

# What an `async def` stub returns. Of a union with what a plain one returns mypy does not find the type of the value.
_Sending: TypeAlias = Coroutine[Any, Any, TaskResult[_R]]

_HIDDEN: Final = {"argsrepr": MASK, "kwargsrepr": MASK}


class Origin(NamedTuple):
    """What a signature was made of.

    Args:
        interceptor: What sends for the client.
        stub: The stub.
        typed: Whether the stub's annotations say what its arguments and its task's value are.
    """

    interceptor: CeleryClientInterceptor
    stub: Stub
    typed: bool


class TaskSignature(Signature, Generic[_R]):  # type: ignore[misc]  # Celery has no types
    """A `celery.canvas.Signature` whose call a stub has checked, and which sends as the stub does.

    Make it with `signature` or `partial_signature`, and use it wherever Celery takes a signature. As any of Celery's,
    it is a dict that JSON can hold: what a worker makes of it again is a plain `Signature`, with the same arguments and
    options.
    """

    origin: Origin

    if TYPE_CHECKING:
        options: dict[str, Any]  # pyright: ignore[reportIncompatibleMethodOverride]

        def delay(self, *partial_args: Any, **partial_kwargs: Any) -> TaskResult[_R]:
            """Send it, as Celery's `Signature.delay`."""
            ...

        def freeze(self, _id: str | None = None, *args: Any, **kwargs: Any) -> TaskResult[_R]:
            """Give it the id that its task will have, as Celery's `Signature.freeze`."""
            ...

        def set(self, immutable: bool | None = None, **options: Unpack[MessageOptions]) -> Self:
            """Give it further options, as Celery's `Signature.set`."""
            ...

    def apply_async(
        self,
        args: Any = None,
        kwargs: Any = None,
        route_name: str | None = None,  # noqa: ARG002  # Celery 5.7 leaves it out as well
        **options: Any,
    ) -> TaskResult[_R]:
        """Send it, as Celery's `Signature.apply_async`, and as the stub does. It waits for the broker meanwhile.

        Args:
            args: Arguments that come before its own, unless it is immutable.
            kwargs: Keyword arguments beside its own, unless it is immutable.
            route_name: Not used.
            **options: Options that win over its own.

        Raises:
            CallError: If the arguments do not fit the stub. Nothing is sent then.
            Exception: What the stub raises.
        """
        given = {name: value for name, value in options.items() if value is not None}
        args, kwargs, merged = self._merge(args, kwargs, given)
        interceptor, stub, typed = self.origin
        args, kwargs = stub.bind(tuple(args), kwargs, typed=typed)
        sent = {name: value for name, value in merged.items() if name != PUBLISH_TIMEOUT}
        return cast("TaskResult[_R]", interceptor.send_here(stub, args, kwargs, sent, typed=typed))

    def message(self, around: ExitStack) -> CallMessage:
        """Return the message that it would send.

        Args:
            around: Where the interceptors of its sending are entered.

        Raises:
            CallError: If its arguments do not fit the stub.
        """
        interceptor, stub, typed = self.origin
        args, kwargs = stub.bind(tuple(self["args"]), self["kwargs"], typed=typed)
        options = {name: value for name, value in self["options"].items() if name != PUBLISH_TIMEOUT}
        return interceptor.message(around, stub, args, kwargs, options, typed=typed)

    def clone(self, args: Any = None, kwargs: Any = None, **opts: Any) -> "TaskSignature[_R]":
        """Return a copy, as Celery's `Signature.clone`."""
        return self._like(super().clone(args, kwargs, **opts))

    partial = clone

    def reprcall(self, *args: Any, **kwargs: Any) -> str:
        """Return it as a call, without what the stub marks as sensitive."""
        if not self.origin.stub.sensitive:
            return str(super().reprcall(*args, **kwargs))
        return f"{self.name}({self.options['argsrepr']}, {self.options['kwargsrepr']})"

    @cached_property
    def AsyncResult(  # noqa: N802  # pyright: ignore[reportIncompatibleVariableOverride]  # Celery's name
        self,
    ) -> Callable[[str], TaskResult[_R]]:
        """Makes the result of its task, by the task's id."""
        interceptor, stub, typed = self.origin
        return interceptor.result_class(stub, typed)

    def __deepcopy__(self, memo: dict[int, Any]) -> "TaskSignature[_R]":
        # Celery makes a plain dict of it, of which it makes a plain signature again: in each copy of a chain.
        copied = memo[id(self)] = self._like(super().__deepcopy__(memo))
        return copied

    def _like(self, fields: dict[str, Any]) -> "TaskSignature[_R]":
        made: TaskSignature[_R] = TaskSignature(fields, app=self.app)
        made.origin = self.origin
        return made


@overload
def signature(stub: Callable[_P, TaskResult[_R]], /, *args: _P.args, **kwargs: _P.kwargs) -> TaskSignature[_R]: ...
@overload
def signature(stub: Callable[_P, _Sending[_R]], /, *args: _P.args, **kwargs: _P.kwargs) -> TaskSignature[_R]: ...


def signature(stub: Callable[..., Any], /, *args: Any, **kwargs: Any) -> TaskSignature[Any]:
    """Return the signature of a call: what to send, for Celery's canvas or for later.

    The call is complete, so the signature is immutable, as one that Celery's `Task.si` makes: the result of the task
    before it in a chain is not passed to it.

    Args:
        stub: A stub of a client, such as `orders.confirm`; one of `with_options(orders, ...)` has those options.
        *args: The positional arguments.
        **kwargs: The keyword arguments.

    Returns:
        Celery's Signature, with the stub's options. What it sends returns a `TaskResult`.

    Raises:
        CallError: If the call does not fit the stub.
        TypeError: If it is no stub of a client.

    Example:
        >>> from celery import group
        >>> from pico_celery import signature
        >>> def confirm_both(orders):
        ...     return group(signature(orders.confirm, 7), signature(orders.confirm, 8)).apply_async()
    """
    origin, client = _origin(stub, "signature()")
    positional, keywords = origin.stub.bind(args, kwargs, typed=origin.typed)
    made = _made(origin, client, positional, keywords)
    made.options.update(origin.interceptor.shown(origin.stub, positional, keywords) | made.options)
    made.set_immutable(True)
    return made


@overload
def partial_signature(stub: Callable[..., TaskResult[_R]], /, *args: Any, **kwargs: Any) -> TaskSignature[_R]: ...
@overload
def partial_signature(stub: Callable[..., _Sending[_R]], /, *args: Any, **kwargs: Any) -> TaskSignature[_R]: ...


def partial_signature(stub: Callable[..., Any], /, *args: Any, **kwargs: Any) -> TaskSignature[Any]:
    """Return the signature of a call whose first argument is left open, as for a task that gets another's result.

    A chain, a chord or a `link` fills it in, as one that Celery's `Task.s` makes.

    Args:
        stub: A stub of a client, such as `orders.confirm`.
        *args: The positional arguments after the first.
        **kwargs: The keyword arguments.

    Returns:
        Celery's Signature, with the stub's options.

    Raises:
        CallError: If the call does not fit the stub, whatever its first argument is.
        TypeError: If it is no stub of a client.

    Example:
        >>> from celery import chain
        >>> from pico_celery import partial_signature, signature
        >>> def confirm_and_mail(orders, mails):
        ...     return chain(signature(orders.confirm, 7), partial_signature(mails.send, to="ada@shop.example"))
    """
    origin, client = _origin(stub, "partial_signature()")
    made = _made(origin, client, *origin.stub.bind_partial(args, kwargs, typed=origin.typed))
    if origin.stub.sensitive:  # which of its arguments that is depends on what comes before them
        made.options.update(_HIDDEN | made.options)
    return made


def _made(origin: Origin, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> TaskSignature[Any]:
    interceptor, stub, _ = origin
    options = interceptor.options_of(client, stub)
    options.pop(PUBLISH_TIMEOUT, None)
    made: TaskSignature[Any] = TaskSignature(
        stub.spec.name, args, kwargs, interceptor.with_backend(options), app=interceptor.app
    )
    made.origin = origin
    return made


def _origin(method: Any, where: str) -> tuple[Origin, Any]:
    client = getattr(method, "__self__", None)
    known = stub_of(method.__func__) if client is not None and hasattr(method, "__func__") else None
    if known is None:
        name = getattr(method, "__qualname__", repr(method))
        hint = "Give it a stub of a client from the container, such as client.confirm, without @intercepted_by."
        raise DeclarationError(where, name, "it is not a @send_task stub of a client", hint)
    interceptor = getattr(client, "__dict__", {}).get(INTERCEPTOR)
    if interceptor is None:
        raise ClientNotConnectedError(type(client).__qualname__, method.__name__)
    return Origin(interceptor, known, interceptor.is_typed(client, known)), client
