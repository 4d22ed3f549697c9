"""RecordingCelery: remembers what is sent through it."""

import dataclasses
import functools
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar, overload

from celery import Celery
from celery.utils import uuid
from kombu.message import Message

from pico_celery_client.results.result import TaskResult
from pico_celery_client.testing.calls import Call, declared_tasks, described, named_arguments, stub_behind, task_name
from pico_celery_client.testing.outcomes import Outcome, Outcomes, PreparedResult
from pico_celery_core.backends import BACKEND_HEADER
from pico_celery_core.options import TYPED
from pico_celery_core.suggestions import near_miss
from pico_celery_core.testing.memory import Outbox, keep_in_memory, round_trip
from pico_celery_core.values.returned import is_typed

_P = ParamSpec("_P")
_R = TypeVar("_R")

_Sent: TypeAlias = TaskResult[_R] | Coroutine[Any, Any, TaskResult[_R]]

# What says how to send, rather than what the message is sent with.
_OURS: Final = ("connection", "producer", "publisher", "result_cls", "router", "task_type")

# What says how to show its arguments.
_SHOWN: Final = ("argsrepr", "kwargsrepr")


class RecordingCelery(Celery):  # type: ignore[misc]  # Celery has no types
    """A Celery app that sends nothing: it remembers calls, and their results are what the test has set up.

    Give it to `init` as an override for `Celery`. The real clients send through it, so a call is checked against its
    stub, routed and encoded as in production, and what could not be sent fails in the same way.

    Args:
        **settings: Celery settings that matter to the test, such as `task_serializer`.

    Example:
        >>> import asyncio
        >>> from celery import Celery
        >>> from examples.quickstart.client import OrderClient, Shop
        >>> from pico_celery_client.testing import RecordingCelery
        >>> from pico_ioc import init
        >>> celery = RecordingCelery()
        >>> container = init(modules=["pico_celery", "examples.quickstart.client"], overrides={Celery: celery})
        >>> orders, shop = container.get(OrderClient), container.get(Shop)
        >>> celery.returns(orders.confirm, "It is.")
        >>> async def sell() -> str:
        ...     return await (await shop.sell(7, "ada@shop.example"))
        >>> asyncio.run(sell())
        'It is.'
        >>> celery.assert_sent(orders.confirm, 7, email="ada@shop.example").options
        {}
        >>> [call.arguments for call in celery.calls_of(orders.confirm)]
        [{'order': 7, 'email': 'ada@shop.example'}]
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__("recording", broker="memory://", set_as_current=False)
        self.conf.update(settings)
        self.calls: list[Call] = []
        """What was sent, in this order."""
        self._messages: dict[str, Message] = {}
        self._outcomes = Outcomes(self)
        keep_in_memory(self, Outbox(self._take), self._outcomes)

    def calls_to(self, task: str) -> list[Call]:
        """Return what was sent to a task.

        Args:
            task: The task's name.
        """
        return [call for call in self.calls if call.task == task]

    def calls_of(self, stub: Callable[..., Any]) -> list[Call]:
        """Return what was sent to a stub's task, with the arguments under the names of the stub's parameters.

        Args:
            stub: The method of a client, such as `client.confirm`.

        Raises:
            TypeError: If it is no stub, or if a call does not fit it, because another stub has sent it.
        """
        known = stub_behind(stub)
        return [
            dataclasses.replace(call, arguments=named_arguments(known, call.args, call.kwargs))
            for call in self.calls_to(known.spec.name)
        ]

    def assert_sent(self, stub: Callable[_P, Any], /, *args: _P.args, **kwargs: _P.kwargs) -> Call:
        """Check that a stub was called with these arguments, in whatever way they were passed.

        Args:
            stub: The method of a client, such as `client.confirm`.
            *args: The positional arguments.
            **kwargs: The keyword arguments.

        Returns:
            The last such call, whose `options` can be looked at.

        Raises:
            AssertionError: If it was not. It tells what was sent instead.
            TypeError: If the arguments do not fit the stub.
        """
        known = stub_behind(stub)
        typed = is_typed(self, known.spec.options.get(TYPED))
        sent = known.bind(args, kwargs, typed=typed)
        expected = named_arguments(known, *round_trip(sent, self.conf.task_serializer))
        calls = self.calls_of(stub)
        for call in reversed(calls):
            if call.arguments == expected:
                return call
        told = f"{known.name} was not called with {described((), expected)}."
        if calls:
            instead = "It was called with:", *(f"  {described((), call.arguments)}" for call in calls)
        elif self.calls:
            instead = f"{known.spec.name!r} was not sent at all. Sent was:", *(f"  {call}" for call in self.calls)
        else:
            instead = ("Nothing was sent.",)
        raise AssertionError("\n".join([told, *instead]))

    @overload
    def returns(self, task: str, value: Any, /, *more: Any, delay: float = 0) -> None: ...

    @overload
    def returns(self, task: Callable[..., _Sent[_R]], value: _R, /, *more: _R, delay: float = 0) -> None: ...

    def returns(self, task: Any, value: Any, /, *more: Any, delay: float = 0) -> None:
        """Say what a task's handler will return.

        What is set up for a task, here and by `raises`, is for one call after the other; the last is for all calls
        that follow.

        Args:
            task: A stub that sends the task, or the task's name.
            value: What its handler returns.
            *more: What it returns for the calls after that.
            delay: How long after the task was sent, in seconds.

        Raises:
            kombu.exceptions.EncodeError: If no worker could store the value.
            ResultTypeError: If it does not fit the stub's return annotation.
        """
        values = [self._dumped(task, item) for item in (value, *more)]
        self._prepare(task, [self._outcomes.returning(item, delay) for item in values])

    def raises(self, task: str | Callable[..., Any], error: Exception, /, *more: Exception, delay: float = 0) -> None:
        """Say what a task's handler will raise. See `returns`.

        Args:
            task: A stub that sends the task, or the task's name.
            error: What its handler raises.
            *more: What it raises for the calls after that.
            delay: How long after the task was sent, in seconds.

        Raises:
            TypeError: If the error would come from a worker as another one.
        """
        self._prepare(task, [self._outcomes.raising(item, delay) for item in (error, *more)])

    def verify(self) -> None:
        """Check that no result was set up under a misspelt name. The fixture `recording_celery` does so in the end.

        Raises:
            AssertionError: If a result was set up for a task that was not sent, that no client could send, and whose
                name resembles another one.
        """
        known = {call.task for call in self.calls} | declared_tasks()
        for task in self._outcomes.prepared.keys() - known:
            meant = near_miss(task, known)
            if meant:
                raise AssertionError(f"A result was set up for {task!r}, which nothing sends. Did you mean {meant!r}?")

    # Celery passes the rest by name only.
    def send_task(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, name: str, args: Any = None, kwargs: Any = None, **options: Any
    ) -> Any:
        """Record a task instead of sending it. See Celery's `send_task`.

        Returns:
            A `TaskResult`.

        Raises:
            kombu.exceptions.EncodeError: If the serializer cannot encode an argument.
        """
        task_id = options.pop("task_id", None) or uuid()
        # A client's own class of results carries what its stub declares.
        declared = getattr(options.get("result_cls"), "keywords", {})
        result_class = functools.partial(PreparedResult, app=self, returned=declared.get("returned"))
        meant = {option: value for option, value in options.items() if option not in _OURS}
        result = super().send_task(name, args, kwargs, task_id=task_id, result_cls=result_class, **meant)
        message = self._messages.pop(task_id)
        payload: Any = message.payload
        sent_args, sent_kwargs, _ = payload
        self.calls.append(Call(name, tuple(sent_args), sent_kwargs, _given(meant), task_id))
        self._outcomes.decide(task_id, name)
        return result

    def _take(self, message: Message) -> None:
        message.accept = {message.content_type}
        self._messages[message.headers["id"]] = message

    def _dumped(self, task: str | Callable[..., Any], value: Any) -> Any:
        stub = None if isinstance(task, str) else stub_behind(task)
        if stub is None or stub.returned is None or not is_typed(self, stub.spec.options.get(TYPED)):
            return value
        return stub.returned.dump(value)

    def _prepare(self, task: str | Callable[..., Any], outcomes: list[Outcome]) -> None:
        self._outcomes.prepared.setdefault(task_name(task), deque()).extend(outcomes)


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that the application has given, without those by which it is sent for it."""
    given = {name: value for name, value in options.items() if value is not None and name not in _SHOWN}
    headers = {name: value for name, value in given.pop("headers", {}).items() if name != BACKEND_HEADER}
    given |= {"headers": headers} if headers else {}
    policy = {name: value for name, value in given.pop("retry_policy", {}).items() if name != "errback"}
    return {**given, "retry_policy": policy} if policy else given
