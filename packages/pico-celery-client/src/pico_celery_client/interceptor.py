"""CeleryClientInterceptor: a method call becomes a message."""

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Final, cast

from celery import Celery
from kombu.exceptions import ChannelError, ConnectionError, EncodeError, OperationalError, ResourceError  # noqa: A004
from kombu.serialization import dumps
from pico_ioc import MethodCtx, MethodInterceptor, component

from pico_celery_client.publishing.interception import SendInterceptor, around_sending
from pico_celery_client.publishing.patterns import Call, CallMessage
from pico_celery_client.publishing.publisher import broker_of, publish
from pico_celery_client.publishing.sending import send_here
from pico_celery_client.publishing.tracing import span_of_sending
from pico_celery_client.results.result import TaskResult
from pico_celery_client.stub import Stub, stub_of, untyped_stubs
from pico_celery_core.backends import BACKEND_HEADER, result_backend_address
from pico_celery_core.connections import connection_hint
from pico_celery_core.errors import ArgumentEncodingError, MissingStampError
from pico_celery_core.failures.backend import store_failures_in_full
from pico_celery_core.options import PUBLISH_TIMEOUT, TYPED, merged_send_options, missing_stamp
from pico_celery_core.priority import by_priority
from pico_celery_core.publishing_time import note_publishing_times
from pico_celery_core.timeouts import Timeouts
from pico_celery_core.values.returned import is_typed

# Under this name a client holds the options that win over those of its stubs.
SEND_OPTIONS: Final = "_pico_celery_send_options"

# What RabbitMQ says of a user, a virtual host or a queue. kombu makes an OperationalError of lost connections only.
_AMQP_ERRORS: Final = (ChannelError, ConnectionError, ResourceError)

# What is added to the options of a call before Celery gets them.
_OURS: Final = ("producer",)

logger = logging.getLogger(__name__)


@component
class CeleryClientInterceptor(MethodInterceptor):
    """Sends the task of a `@send_task` stub instead of running its body.

    Args:
        app: The Celery app to send with.
        interceptors: What the application does around each sending.
    """

    def __init__(self, app: Celery, interceptors: Sequence[SendInterceptor] = ()) -> None:
        store_failures_in_full(app)
        note_publishing_times()
        self._app = app
        self._interceptors = by_priority(interceptors)
        self._warned: set[str] = set()
        self._looked_at: set[type] = set()

    @property
    def app(self) -> Celery:
        """The app that it sends with."""
        return self._app

    @functools.cached_property
    def _timeouts(self) -> Timeouts:
        return Timeouts.of(self._app)

    @functools.cached_property
    def _typed(self) -> bool:
        return is_typed(self._app)

    def invoke(self, ctx: MethodCtx, call_next: Callable[[MethodCtx], Any]) -> Any:
        """Send the task that the called method stands for, as `send` does.

        Args:
            ctx: The call.
            call_next: What to do where the method is no stub.
        """
        method = getattr(ctx.method, "__func__", ctx.method)
        if stub_of(method) is None:
            return call_next(ctx)
        return self.send(ctx.instance, method, ctx.args, ctx.kwargs)

    def send(self, client: Any, method: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Send the task that a stub stands for.

        Args:
            client: The client that it is called on.
            method: The stub.
            args: The positional arguments.
            kwargs: The keyword arguments.

        Returns:
            A `TaskResult`; for an `async def` stub, an awaitable of one.

        Raises:
            CallError: If the call does not fit the stub's signature. Nothing is sent then.
            ArgumentEncodingError: If the serializer cannot encode an argument. Nothing is sent then.
            MissingStampError: If a stamp is named, and not given. Nothing is sent then.
            kombu.exceptions.OperationalError: If the broker cannot be reached, or refuses the message.
            PublishTimeoutError: If an `async def` stub's message is not sent within `publish_timeout`.
        """
        stub = cast("Stub", stub_of(method))
        typed = self.is_typed(client, stub)
        if type(client) not in self._looked_at:
            self.look_at(type(client))
        args, kwargs = stub.bind(args, kwargs, typed=typed)
        options = self.options_of(client, stub)
        timeout = options.pop(PUBLISH_TIMEOUT, None)
        if not stub.is_async:
            return self.send_here(stub, args, kwargs, options, typed=typed)
        if timeout is None:
            timeout = self._timeouts.publish
        result_class = self.result_class(stub, typed)
        return self._publish(
            stub, args, kwargs, result_class, self._masked(stub, args, kwargs, options), timeout=timeout or None
        )

    def look_at(self, cls: type) -> None:
        """Warn, once, of annotations of a client's stubs that say a type which values do not get.

        While the app is not configured, it is not known whether values are to get any; the first call asks again.

        Args:
            cls: The client's class.
        """
        if cls in self._looked_at or not self._app.configured:
            return
        self._looked_at.add(cls)
        for where, untyped in untyped_stubs(cls, typed=self._typed):
            logger.warning("%s: %s", where, untyped)

    def is_typed(self, client: Any, stub: Stub) -> bool:
        """Tell whether the annotations of a stub say what its arguments and its task's value are.

        Args:
            client: The client that the stub is called on.
            stub: The stub.
        """
        option: bool | None = vars(client).get(SEND_OPTIONS, {}).get(TYPED, stub.spec.options.get(TYPED))
        return self._typed if option is None else option

    def result_class(self, stub: Stub, typed: bool) -> Callable[[str], TaskResult[Any]]:
        """Return what makes the results of a stub's messages, by their ids.

        Args:
            stub: The stub.
            typed: Whether they are of the type that the stub declares.
        """
        return functools.partial(TaskResult, app=self._app, returned=stub.returned if typed else None)

    def options_of(self, client: Any, stub: Stub) -> dict[str, Any]:
        """Return what the messages of a stub are sent with: its own options, then those of `with_options`.

        Args:
            client: The client that the stub is called on.
            stub: The stub.

        Raises:
            MissingStampError: If a stamp is named, and not given.
        """
        options = merged_send_options(stub.spec.options, vars(client).get(SEND_OPTIONS, {}))
        options.pop(TYPED, None)
        stamp = missing_stamp(options)
        if stamp:
            raise MissingStampError(stub.name, stub.spec.name, stamp)
        return options

    def send_here(
        self, stub: Stub, args: tuple[Any, ...], kwargs: dict[str, Any], options: Mapping[str, Any], *, typed: bool
    ) -> Any:
        """Send a task, and wait for the broker on this thread: for a plain stub, or a signature of any stub.

        Args:
            stub: The stub that stands for the task.
            args: The positional arguments, as the stub has bound them.
            kwargs: The keyword arguments, as the stub has bound them.
            options: What to send it with.
            typed: Whether its value is to be of the type that the stub declares.

        Returns:
            A `TaskResult`.
        """
        self._warn_where_it_blocks(stub)
        send = functools.partial(self._send, stub, args, kwargs, self.result_class(stub, typed))
        with self._around_sending(stub, args, kwargs, self._masked(stub, args, kwargs, options)) as sent:
            return send_here(self._app, send, sent)

    @contextlib.contextmanager
    def _around_sending(
        self, stub: Stub, args: tuple[Any, ...], kwargs: dict[str, Any], options: Mapping[str, Any]
    ) -> Generator[Mapping[str, Any]]:
        with span_of_sending(stub.spec.name):
            if not self._interceptors:
                yield options
                return
            with around_sending(self._interceptors, stub.spec.name, args, kwargs, options) as changed:
                yield changed

    def message(
        self,
        around: contextlib.ExitStack,
        stub: Stub,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Mapping[str, Any],
        *,
        typed: bool,
    ) -> CallMessage:
        """Return the message of a call, to be sent with others.

        Args:
            around: Where the interceptors of its sending are entered.
            stub: The stub that stands for the task.
            args: The positional arguments, as the stub has bound them.
            kwargs: The keyword arguments, as the stub has bound them.
            options: What to send it with.
            typed: Whether its value is to be of the type that the stub declares.
        """
        masked = self._masked(stub, args, kwargs, options)
        if self._interceptors:
            name = stub.spec.name
            masked = around.enter_context(around_sending(self._interceptors, name, args, kwargs, masked))
        result_class = self.result_class(stub, typed)
        send = functools.partial(self._send, stub, args, kwargs, result_class)
        explain = functools.partial(self._explained, stub, args, kwargs, masked)
        return CallMessage(self._app, send, masked, explain, Call(stub.spec.name, args, kwargs, result_class))

    def _masked(
        self, stub: Stub, args: tuple[Any, ...], kwargs: dict[str, Any], options: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        return {**self.shown(stub, args, kwargs), **options} if stub.sensitive else options

    def shown(self, stub: Stub, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, str]:
        """Return the options that say how arguments are shown, if some are sensitive. See `Stub.shown`."""
        return stub.shown(args, kwargs, self._repr_limits()) if stub.sensitive else {}

    async def _publish(
        self,
        stub: Stub,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        result_class: Callable[[str], TaskResult[Any]],
        options: Mapping[str, Any],
        *,
        timeout: float | None,
    ) -> Any:
        send = functools.partial(self._send, stub, args, kwargs, result_class)
        explain = functools.partial(self._explained, stub, args, kwargs, options)
        with self._around_sending(stub, args, kwargs, options) as sent:
            result = await publish(self._app, stub.spec.name, send, sent, timeout, explain=explain)
        if isinstance(result, TaskResult):
            # Each thread has a backend of its own. Celery's ResultSet reads the caller's, not the sending thread's.
            result.backend = self._app.backend
        return result

    def _warn_where_it_blocks(self, stub: Stub) -> None:
        """Warn once of a plain stub that is called, or a signature that is sent, on a running event loop."""
        if stub.name in self._warned or not is_on_a_loop():
            return
        self._warned.add(stub.name)
        if stub.is_async:
            logger.warning(
                "A signature of %s, which sends %r, was sent on a running event loop. The loop stands still while it "
                "sends: for many seconds if the broker is away. Send it in a thread: "
                "`await asyncio.to_thread(signature.delay)`.",
                stub.name,
                stub.spec.name,
                stack_info=logger.isEnabledFor(logging.DEBUG),
            )
            return
        logger.warning(
            "%s, which sends %r, is a plain method that was called on a running event loop. The loop stands still "
            "while it sends: for many seconds if broker or result backend are away. Make it `async def`, and await it.",
            stub.name,
            stub.spec.name,
            stack_info=logger.isEnabledFor(logging.DEBUG),
        )

    def _send(
        self,
        stub: Stub,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        result_class: Callable[[str], TaskResult[Any]],
        options: Mapping[str, Any],
    ) -> Any:
        try:
            sent = self.with_backend(options)
            return self._app.send_task(stub.spec.name, args=args, kwargs=kwargs, result_cls=result_class, **sent)
        except Exception as error:
            explained = self._explained(stub, args, kwargs, options, error)
            if explained is error:
                raise
            raise explained from error

    def _explained(
        self, stub: Stub, args: tuple[Any, ...], kwargs: dict[str, Any], options: Mapping[str, Any], error: Exception
    ) -> Exception:
        """Return what to raise of an error in sending: one that says what was sent and to where, if it does not."""
        name = stub.spec.name
        explained: Exception = error
        if isinstance(error, EncodeError):
            serializer = options.get("serializer") or self._app.conf.task_serializer
            for argument, value in stub.named(args, kwargs):
                if not _encodes(value, serializer):
                    kind = type(value).__qualname__
                    explained = ArgumentEncodingError(stub.name, name, argument, kind, serializer)
                    break
        elif isinstance(error, (OperationalError, *_AMQP_ERRORS)):
            # What the operating system says of it, such as "Connection refused", does not always tell of whom.
            explained = self._refused(name, error)
        else:
            # Celery and kombu do not say which of the options they choke on, nor whose.
            names = [option for option in options if option not in _OURS]
            given = f"with the options {', '.join(names)}" if names else "without options"
            error.add_note(f"{stub.name}, which sends {name!r} {given}, raised this.")
        if explained is not error:
            explained.__cause__ = error
        return explained

    def with_backend(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Have a message say where its result is looked for, so that its worker can tell if that is in vain.

        Args:
            options: The message's options.

        Returns:
            The options, with a header more where the app keeps results.
        """
        address = "" if options.get("ignore_result") else result_backend_address(self._app)
        if not address:
            return options
        return {**options, "headers": {**(options.get("headers") or {}), BACKEND_HEADER: address}}

    def _refused(self, task: str, error: Exception) -> OperationalError:
        broker = broker_of(self._app)
        hint = connection_hint(str(error), broker, "broker_url")
        told = f"{str(error).rstrip('.')}. {hint}" if hint else str(error)
        return OperationalError(f"Sending task {task!r} to {broker}: {told}")

    def _repr_limits(self) -> dict[str, int]:
        return {"maxlen": self._app.amqp.argsrepr_maxsize, "maxlevels": self._app.conf.task_repr_maxlevels}


def is_on_a_loop() -> bool:
    """Tell whether an event loop runs on this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _encodes(value: Any, serializer: str) -> bool:
    try:
        dumps(value, serializer)  # type: ignore[no-untyped-call]
    except EncodeError:
        return False
    return True
