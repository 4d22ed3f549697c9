"""Every error the packages raise.

Each keeps its data as attributes, says what is wrong, where, and what to do, and can be rebuilt from `args`, so that
it survives pickling and Celery's result backends. For that its arguments are plain strings and numbers.
"""

import difflib
from collections.abc import Iterable

from pico_celery_core.connections import connection_hint

__all__ = [
    "ArgumentEncodingError",
    "CallError",
    "ClientNotConnectedError",
    "ClosedScopeError",
    "ContainerClosedError",
    "ContractError",
    "ContractFileError",
    "DeclarationError",
    "DuplicateTaskError",
    "EmptyClientError",
    "HandlerArgumentsError",
    "HandlerCancelledError",
    "HandlerExitError",
    "ListeningCancelledError",
    "LossyModelError",
    "MessageTooLargeError",
    "MissingStampError",
    "OptionValueError",
    "PicoCeleryError",
    "PublishTimeoutError",
    "ResolutionError",
    "ResultBackendError",
    "ResultTimeoutError",
    "SettingsError",
    "TaskNameError",
    "UnknownOptionError",
]


class PicoCeleryError(Exception):
    """Base of all errors of pico-celery."""


class DeclarationError(PicoCeleryError, TypeError):
    """A decorator stands where it cannot work."""

    def __init__(self, decorator: str, target: str, problem: str, hint: str) -> None:
        super().__init__(decorator, target, problem, hint)
        self.decorator = decorator
        self.target = target
        self.problem = problem
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.decorator} on {self.target}: {self.problem}. {self.hint}"


class TaskNameError(PicoCeleryError, ValueError):
    """A task name is empty or only white space."""

    def __init__(self, decorator: str, name: str) -> None:
        super().__init__(decorator, name)
        self.decorator = decorator
        self.name = name

    def __str__(self) -> str:
        return (
            f"{self.decorator} needs a task name that says something, not {self.name!r}. "
            f'Write for instance {self.decorator}("orders.confirm").'
        )


class UnknownOptionError(PicoCeleryError, TypeError):
    """An option that Celery does not know."""

    def __init__(self, where: str, option: str, suggestion: str = "") -> None:
        super().__init__(where, option, suggestion)
        self.where = where
        self.option = option
        self.suggestion = suggestion

    def __str__(self) -> str:
        hint = f"Did you mean {self.suggestion!r}?" if self.suggestion else "Remove it, or check its spelling."
        return f"{self.where} got the option {self.option!r}, which Celery does not know. {hint}"


class OptionValueError(PicoCeleryError, ValueError):
    """An option of our own has a value that it cannot have."""

    def __init__(self, where: str, option: str, value: str, hint: str) -> None:
        super().__init__(where, option, value, hint)
        self.where = where
        self.option = option
        self.value = value
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.where} got the option {self.option!r} with the value {self.value}. {self.hint}"


class EmptyClientError(PicoCeleryError, ValueError):
    """A class is decorated with `@celery` but has nothing to send or to run."""

    def __init__(self, cls: str) -> None:
        super().__init__(cls)
        self.cls = cls

    def __str__(self) -> str:
        return (
            f"@celery on {self.cls}: it has neither a @send_task nor a @task method. "
            'Decorate a method with @send_task("task.name"), or use @component for a plain component.'
        )


class DuplicateTaskError(PicoCeleryError, ValueError):
    """Two handlers carry one task name."""

    def __init__(self, task: str, first: str, second: str) -> None:
        super().__init__(task, first, second)
        self.task = task
        self.first = first
        self.second = second

    def __str__(self) -> str:
        return (
            f"The task name {self.task!r} belongs to both {self.first} and {self.second}. "
            "A message can reach only one of them: give one another name."
        )


class ContractError(PicoCeleryError, TypeError):
    """A stub and the handler of its task have no call in common."""

    def __init__(self, task: str, stub: str, handler: str, problem: str) -> None:
        super().__init__(task, stub, handler, problem)
        self.task = task
        self.stub = stub
        self.handler = handler
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"No call of the stub that sends {self.task!r} fits the task's handler: {self.problem}.\n"
            f"  stub:    {self.stub}\n"
            f"  handler: {self.handler}\n"
            "Give both the same parameters."
        )


class CallError(PicoCeleryError, TypeError):
    """A call does not fit the stub's signature; nothing was sent."""

    def __init__(self, stub: str, task: str, problem: str, signature: str) -> None:
        super().__init__(stub, task, problem, signature)
        self.stub = stub
        self.task = task
        self.problem = problem
        self.signature = signature

    def __str__(self) -> str:
        return f"{self.stub}, which sends {self.task!r}: {self.problem}. Call it as {self.signature}. Nothing was sent."


class HandlerArgumentsError(PicoCeleryError, TypeError):
    """A message's arguments do not fit the handler."""

    def __init__(self, task: str, handler: str, problem: str, signature: str) -> None:
        super().__init__(task, handler, problem, signature)
        self.task = task
        self.handler = handler
        self.problem = problem
        self.signature = signature

    def __str__(self) -> str:
        return (
            f"The arguments of task {self.task!r} do not fit {self.handler}{self.signature}: {self.problem}. "
            "Deploy sender and worker with the same signature."
        )


class HandlerCancelledError(PicoCeleryError, RuntimeError):
    """A handler ended as cancelled though nobody had cancelled its task."""

    def __init__(self, task: str) -> None:
        super().__init__(task)
        self.task = task

    def __str__(self) -> str:
        return (
            f"Task {self.task} ended with CancelledError, but nobody cancelled it: something that it awaited was "
            "cancelled. Catch CancelledError there, or do not cancel what the task still awaits."
        )


class HandlerExitError(PicoCeleryError, RuntimeError):
    """A handler raised what is no Exception and means to end more than the task."""

    def __init__(self, task: str, problem: str) -> None:
        super().__init__(task, problem)
        self.task = task
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"Task {self.task} raised {self.problem}, which is no Exception and would end its worker, or be lost "
            "there. Raise an Exception to fail the task, or return to end it."
        )


class ResolutionError(PicoCeleryError, RuntimeError):
    """The container could not build a task's component."""

    def __init__(self, task: str, component: str, problem: str) -> None:
        super().__init__(task, component, problem)
        self.task = task
        self.component = component
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"Task {self.task!r} could not get its component {self.component}: {self.problem}. "
            "Check that what it depends on is registered, and that it can be built."
        )


class ClosedScopeError(PicoCeleryError, ValueError):
    """A task needs a component whose scope the container does not know."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem, hint)
        self.problem = problem
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.problem} {self.hint}"


class ContainerClosedError(PicoCeleryError, RuntimeError):
    """Tasks cannot run with a container that was closed, as its singletons are."""

    def __init__(self, runner: str) -> None:
        super().__init__(runner)
        self.runner = runner

    def __str__(self) -> str:
        return (
            f"The container of this {self.runner} was closed, as it is when a worker or a TaskRunner stops, and its "
            "singletons with it. Make a container for each, by calling init() in the test or in its fixture."
        )


class ArgumentEncodingError(PicoCeleryError, TypeError):
    """An argument cannot be encoded by the task's serializer; nothing was sent."""

    _problem = ""

    def __init__(self, stub: str, task: str, argument: str, kind: str, serializer: str) -> None:
        super().__init__(stub, task, argument, kind, serializer)
        self.stub = stub
        self.task = task
        self.argument = argument
        self.kind = kind
        self.serializer = serializer

    def __str__(self) -> str:
        return (
            f"{self.stub}, which sends {self.task!r}: the {self.serializer} serializer cannot encode the argument "
            f"{self.argument!r}, a {self.kind}{self._problem}. Pass plain values instead: numbers, text, lists, dicts, "
            "dates, UUIDs. Nothing was sent."
        )


class LossyModelError(ArgumentEncodingError):
    """A pydantic model is not what its JSON makes again; nothing was sent."""

    _problem = ", which does not round-trip through JSON"


class MissingStampError(PicoCeleryError, TypeError):
    """A message's `stamped_headers` name a stamp that it lacks; nothing was sent."""

    def __init__(self, stub: str, task: str, stamp: str) -> None:
        super().__init__(stub, task, stamp)
        self.stub = stub
        self.task = task
        self.stamp = stamp

    def __str__(self) -> str:
        return (
            f"{self.stub}, which sends {self.task!r}: its stamped_headers name {self.stamp!r}, which has no value. "
            f"Give it one with with_options(client, {self.stamp}=...). Nothing was sent."
        )


class PublishTimeoutError(PicoCeleryError, TimeoutError):
    """Sending a task took longer than it may."""

    def __init__(self, task: str, timeout: float, broker: str, problem: str = "", begun: bool = True) -> None:
        super().__init__()
        # An OSError, which a TimeoutError is, takes its arguments for a number and a file.
        self.args = (task, timeout, broker, problem, begun)
        self.task = task
        self.timeout = timeout
        self.broker = broker
        self.problem = problem
        self.begun = begun

    def __str__(self) -> str:
        if self.begun:
            problem = f"{self.problem or 'the broker did not answer'}. The message may arrive yet."
        else:
            problem = "earlier messages were still waiting for the broker. Nothing was sent."
        hint = connection_hint(self.problem or "did not answer", self.broker, "broker_url") if self.begun else ""
        return (
            f"Sending task {self.task!r} to {self.broker} took longer than {self.timeout:g} s: {problem} "
            f"{hint or 'Check that the broker can be reached, or give it more time with publish_timeout.'}"
        )


class ResultTimeoutError(PicoCeleryError, TimeoutError):
    """No result has come in time."""

    def __init__(self, task_id: str, timeout: float) -> None:
        super().__init__()
        self.args = (task_id, timeout)
        self.task_id = task_id
        self.timeout = timeout

    def __str__(self) -> str:
        return (
            f"Task {self.task_id} had no result after {self.timeout:g} s. It may be queued, running, or unknown to "
            "any worker, or its worker may keep results elsewhere; it was not cancelled. Check that a worker runs, and "
            "that both have the same backend_url, or give it more time with wait(timeout=...) or pico_result_timeout."
        )


class ResultBackendError(PicoCeleryError, RuntimeError):
    """The result backend lets this process not in."""

    def __init__(self, backend: str, problem: str, hint: str) -> None:
        super().__init__(backend, problem, hint)
        self.backend = backend
        self.problem = problem
        self.hint = hint

    def __str__(self) -> str:
        return f"The result backend {self.backend} refuses the connection: {self.problem.rstrip('.')}. {self.hint}"


class ListeningCancelledError(PicoCeleryError, RuntimeError):
    """What listens for results was cancelled, and not those who wait for them."""

    def __init__(self, listener: str) -> None:
        super().__init__(listener)
        self.listener = listener

    def __str__(self) -> str:
        return (
            f"The asyncio task {self.listener!r}, which listens for results, was cancelled, but not the one that waits "
            "here. Await the result again, and leave it to asyncio.run to cancel what listens."
        )


class MessageTooLargeError(PicoCeleryError, ValueError):
    """The body of a message is larger, or becomes larger when it is decompressed, than a message may be."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"Its body is larger than a message may be, or becomes so when it is decompressed: {self.limit} bytes. "
            "If messages of yours are so large, raise the setting pico_max_message_size."
        )


class ContractFileError(PicoCeleryError, ValueError):
    """A file is not a contract that can be read."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"This is not a contract that can be read: {self.problem}. "
            "Write it with `python -m pico_celery_client contract MODULE`."
        )


class ClientNotConnectedError(PicoCeleryError, RuntimeError):
    """A client has no Celery app to send with: it was made by hand, or its class lacks `@celery`."""

    def __init__(self, cls: str, stub: str) -> None:
        super().__init__(cls, stub)
        self.cls = cls
        self.stub = stub

    def __str__(self) -> str:
        return (
            f"{self.cls}.{self.stub} cannot send: this {self.cls} is not connected to a Celery app. "
            f"Decorate the class with @celery, and inject it, or take it with container.get({self.cls})."
        )


class SettingsError(PicoCeleryError, ValueError):
    """A setting under the `celery` prefix that cannot be used."""

    def __init__(self, setting: str, problem: str, hint: str) -> None:
        super().__init__(setting, problem, hint)
        self.setting = setting
        self.problem = problem
        self.hint = hint

    def __str__(self) -> str:
        return f"The setting {self.setting!r} under the prefix 'celery' {self.problem}. {self.hint}"


def near_miss(word: str, known: Iterable[str], cutoff: float = 0.7) -> str:
    """Return the known word that `word` was probably meant to be, or an empty string.

    Example:
        >>> near_miss("max_retry", ["max_retries", "queue"])
        'max_retries'
    """
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=cutoff)), "")
