"""Every error the packages raise.

Each keeps its data as attributes, says what is wrong, where, and what to do, and can be rebuilt from `args`, so that
it survives pickling and Celery's result backends. For that its arguments are plain strings and numbers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, dataclass_transform

from pico_celery_core.connections import connection_hint

__all__ = [
    "ArgumentEncodingError",
    "CallError",
    "CancelTimeoutError",
    "ClientNotConnectedError",
    "ClosedScopeError",
    "ContainerClosedError",
    "ContractError",
    "ContractFileError",
    "DeadLetterNotFoundError",
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
    "NoDeadLettersError",
    "NotAllSentError",
    "OptionValueError",
    "PicoCeleryError",
    "PublishTimeoutError",
    "ResolutionError",
    "ResultBackendError",
    "ResultTimeoutError",
    "ResultTypeError",
    "ScheduleError",
    "SettingsError",
    "TaskNameError",
    "UnknownOptionError",
]


@dataclass_transform(eq_default=False)
class PicoCeleryError(Exception):
    """Base of all errors of pico-celery.

    A subclass with a `template` annotates its data, which are the arguments of its constructor, its attributes and its
    `args`. The template is its text; it may name any attribute.
    """

    template: ClassVar[str] = ""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "template" in vars(cls):
            dataclass(eq=False, repr=False)(cls)

    def __post_init__(self) -> None:
        # Not by super().__init__(): an OSError, which a TimeoutError is, takes its arguments for a number and a file.
        self.args = tuple(getattr(self, field.name) for field in fields(self))  # type: ignore[arg-type]

    def __str__(self) -> str:
        return self.template.format_map(_Attributes(self)) if self.template else super().__str__()


class _Attributes(dict[str, Any]):
    """An error's attributes, properties among them, for its template."""

    def __init__(self, error: PicoCeleryError) -> None:
        super().__init__()
        self._error = error

    def __missing__(self, name: str) -> Any:
        return getattr(self._error, name)


class DeclarationError(PicoCeleryError, TypeError):
    """A decorator stands where it cannot work."""

    decorator: str
    target: str
    problem: str
    hint: str
    template = "{decorator} on {target}: {problem}. {hint}"


class TaskNameError(PicoCeleryError, ValueError):
    """A task name is empty or only white space."""

    decorator: str
    name: str
    template = (
        "{decorator} needs a task name that says something, not {name!r}. "
        'Write for instance {decorator}("orders.confirm").'
    )


class UnknownOptionError(PicoCeleryError, TypeError):
    """An option that Celery does not know."""

    where: str
    option: str
    suggestion: str = ""
    template = "{where} got the option {option!r}, which Celery does not know. {hint}"

    @property
    def hint(self) -> str:
        """What to do."""
        return f"Did you mean {self.suggestion!r}?" if self.suggestion else "Remove it, or check its spelling."


class OptionValueError(PicoCeleryError, ValueError):
    """An option of our own has a value that it cannot have."""

    where: str
    option: str
    value: str
    hint: str
    template = "{where} got the option {option!r} with the value {value}. {hint}"


class EmptyClientError(PicoCeleryError, ValueError):
    """A class is decorated with `@celery` but has nothing to send or to run."""

    cls: str
    template = (
        "@celery: No @send_task or @task methods found on {cls}. "
        'Decorate a method with @send_task("task.name"), or use @component for a plain component.'
    )


class DuplicateTaskError(PicoCeleryError, ValueError):
    """Two handlers carry one task name."""

    task: str
    first: str
    second: str
    template = (
        "The task name {task!r} belongs to both {first} and {second}. "
        "A message can reach only one of them: give one another name."
    )


class ScheduleError(PicoCeleryError, ValueError):
    """A schedule cannot be that of its handler."""

    handler: str
    schedule: str
    problem: str
    template = "@schedule of {handler}, {schedule}: {problem}."


class ContractError(PicoCeleryError, TypeError):
    """A stub and the handler of its task have no call in common."""

    task: str
    stub: str
    handler: str
    problem: str
    template = (
        "No call of the stub that sends {task!r} fits the task's handler: {problem}.\n"
        "  stub:    {stub}\n"
        "  handler: {handler}\n"
        "Give both the same parameters."
    )


class CallError(PicoCeleryError, TypeError):
    """A call does not fit the stub's signature; nothing was sent."""

    stub: str
    task: str
    problem: str
    signature: str
    template = "{stub}, which sends {task!r}: {problem}. Call it as {signature}. Nothing was sent."


class HandlerArgumentsError(PicoCeleryError, TypeError):
    """A message's arguments do not fit the handler."""

    task: str
    handler: str
    problem: str
    signature: str
    template = (
        "The arguments of task {task!r} do not fit {handler}{signature}: {problem}. "
        "Deploy sender and worker with the same signature."
    )


class HandlerCancelledError(PicoCeleryError, RuntimeError):
    """A handler ended as cancelled, but its task had not been cancelled."""

    task: str
    template = (
        "Task {task} ended with CancelledError, but nobody cancelled it: something that it awaited was cancelled. "
        "Catch CancelledError there, or do not cancel what the task still awaits."
    )


class HandlerExitError(PicoCeleryError, RuntimeError):
    """A handler raised something that is not an `Exception` subclass, such as `SystemExit`."""

    task: str
    problem: str
    template = (
        "Task {task} raised {problem}, which is not an Exception subclass: it would stop the worker, or be lost. "
        "Raise an Exception to fail the task, or return to end it."
    )


class ResolutionError(PicoCeleryError, RuntimeError):
    """The container could not build a task's component, or a component that it depends on."""

    task: str
    component: str
    problem: str
    phase: str = ""
    path: str = ""
    hint: str = "Check that what it depends on is registered, and that it can be built."
    template = "Task {task!r} could not get its component {component}: {problem}{place}. {hint}"

    @property
    def place(self) -> str:
        """Where it failed: the phase, and the path of dependencies."""
        phase = f", while {self.phase}" if self.phase else ""
        return f"{phase} ({self.path})" if self.path else phase


class ClosedScopeError(PicoCeleryError, ValueError):
    """A task needs a component whose scope the container does not know."""

    problem: str
    hint: str
    template = "{problem} {hint}"


class ContainerClosedError(PicoCeleryError, RuntimeError):
    """Tasks cannot run with a container that was closed, as its singletons are."""

    runner: str
    template = (
        "The container of this {runner} was closed, as it is when a worker or a TaskRunner stops, and its "
        "singletons with it. Make a container for each, by calling init() in the test or in its fixture."
    )


class ArgumentEncodingError(PicoCeleryError, TypeError):
    """An argument cannot be encoded by the task's serializer; nothing was sent."""

    stub: str
    task: str
    argument: str
    kind: str
    serializer: str
    flaw: ClassVar[str] = ""
    template = (
        "{stub}, which sends {task!r}: the {serializer} serializer cannot encode the argument {argument!r}, "
        "a {kind}{flaw}. Pass plain values instead: numbers, text, lists, dicts, dates, UUIDs. Nothing was sent."
    )


class LossyModelError(ArgumentEncodingError):
    """A pydantic model does not round-trip through JSON; nothing was sent."""

    flaw = ", which does not round-trip through JSON"


class MissingStampError(PicoCeleryError, TypeError):
    """A message's `stamped_headers` name a stamp that it lacks; nothing was sent."""

    stub: str
    task: str
    stamp: str
    template = (
        "{stub}, which sends {task!r}: its stamped_headers name {stamp!r}, which has no value. "
        "Give it one with with_options(client, {stamp}=...). Nothing was sent."
    )


class PublishTimeoutError(PicoCeleryError, TimeoutError):
    """Sending a task took longer than it may."""

    task: str
    timeout: float
    broker: str
    problem: str = ""
    begun: bool = True
    template = "Sending task {task!r} to {broker} took longer than {timeout:g} s: {reason} {hint}"

    @property
    def reason(self) -> str:
        """Why it took so long, and what became of the message."""
        if self.begun:
            return f"{self.problem or 'the broker did not answer'}. The message may arrive yet."
        return "earlier messages were still waiting for the broker. Nothing was sent."

    @property
    def hint(self) -> str:
        """What to do."""
        hint = connection_hint(self.problem or "did not answer", self.broker, "broker_url") if self.begun else ""
        return hint or "Check that the broker can be reached, or give it more time with publish_timeout."


class NotAllSentError(PicoCeleryError, RuntimeError):
    """Of several messages some were not sent, or it is not known whether they were.

    `results` has those that were sent, and `causes` what went wrong with the others.
    """

    sent: int
    unsent: int
    problem: str
    template = (
        "Of {count} messages {unsent} failed, and {sent} were sent. The first failure: {problem} What was sent is in "
        "`results`, and why the others were not in `causes`, by the numbers of their signatures."
    )

    @classmethod
    def of(cls, outcomes: Sequence[Any]) -> "NotAllSentError":
        """Make it of what has become of each message: its result, or an exception."""
        causes = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        first = f"{type(causes[0]).__name__}: {causes[0]}"
        error = cls(len(outcomes) - len(causes), len(causes), first)
        vars(error)["outcomes"] = list(outcomes)
        return error

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args  # neither results nor exceptions need be such as a result backend can keep

    @property
    def count(self) -> int:
        """How many messages there were."""
        return self.sent + self.unsent

    @property
    def results(self) -> dict[int, Any]:
        """The results of the messages that were sent, by the numbers of their signatures, which begin with 0."""
        return {number: outcome for number, outcome in self._numbered() if not isinstance(outcome, Exception)}

    @property
    def causes(self) -> dict[int, Exception]:
        """Why the others were not sent, or may not have been, by the numbers of their signatures."""
        return {number: outcome for number, outcome in self._numbered() if isinstance(outcome, Exception)}

    def _numbered(self) -> Iterator[tuple[int, Any]]:
        return iter(enumerate(vars(self).get("outcomes", ())))


class ResultTimeoutError(PicoCeleryError, TimeoutError):
    """No result has come in time."""

    task_id: str
    timeout: float
    template = (
        "Task {task_id} had no result after {timeout:g} s. It may be queued, running, or unknown to any worker, or its "
        "worker may keep results elsewhere; it was not cancelled. Check that a worker runs, and that both have the "
        "same backend_url, or give it more time with wait(timeout=...) or pico_result_timeout."
    )


class CancelTimeoutError(PicoCeleryError, TimeoutError):
    """It has not become known in time whether a task is cancelled."""

    task_id: str
    timeout: float
    problem: str
    template = (
        "It is not certain after {timeout:g} s that task {task_id} does not run: {problem}. It may be cancelled yet, "
        "run to its end, or have ended. Cancel it again with more time: cancel(timeout=...)."
    )


class ResultBackendError(PicoCeleryError, RuntimeError):
    """The result backend refuses the connection."""

    backend: str
    problem: str
    hint: str
    template = "The result backend {backend} refuses the connection: {reason}. {hint}"

    @property
    def reason(self) -> str:
        """The problem, without its full stop."""
        return self.problem.rstrip(".")


class ResultTypeError(PicoCeleryError, TypeError):
    """A task's value is not of the type that the stub, or the handler, declares."""

    task: str
    expected: str
    problem: str
    where: str = "stub"
    template = "The value of task {task!r} does not fit {expected}, which its {where} declares: {problem}. {hint}"

    @property
    def hint(self) -> str:
        """What to do."""
        if self.where == "reader":
            return "Ask for what the handler gives to `TaskContext.progress`."
        if self.where == "handler":
            return "Return what the handler declares, or correct its return annotation."
        return "Let stub and handler declare the same type; `result.result` has the value as it was stored."


class ListeningCancelledError(PicoCeleryError, RuntimeError):
    """The background task that receives results was cancelled."""

    listener: str
    template = (
        "The background task {listener!r} that receives results was cancelled, and not the task that awaits this "
        "result. Await the result again, and leave the background task to asyncio.run, which cancels it at the end."
    )


class MessageTooLargeError(PicoCeleryError, ValueError):
    """The body of a message is larger, or becomes larger when it is decompressed, than a message may be."""

    limit: int
    template = (
        "Its body is larger than a message may be, or becomes so when it is decompressed: {limit} bytes. "
        "If messages of yours are so large, raise the setting pico_max_message_size."
    )


class NoDeadLettersError(PicoCeleryError, RuntimeError):
    """The broker is one in which dead letters are not kept."""

    broker: str
    template = (
        "Dead letters are kept in Redis and in RabbitMQ, not in {broker}. With another broker a message that cannot be "
        "run is only logged."
    )


class DeadLetterNotFoundError(PicoCeleryError, ValueError):
    """There is no dead letter of this id."""

    id: str
    template = (
        "There is no dead letter {id!r}, neither by its own id nor by that of its task. It may have been sent again, "
        "dropped, or too old to be kept. `celery -A app pico dead list` shows all."
    )


class ContractFileError(PicoCeleryError, ValueError):
    """A file is not a contract that can be read."""

    problem: str
    template = (
        "This is not a contract that can be read: {problem}. "
        "Write it with `python -m pico_celery_client contract MODULE`."
    )


class ClientNotConnectedError(PicoCeleryError, RuntimeError):
    """A client has no Celery app to send with: it was made by hand, or its class lacks `@celery`."""

    cls: str
    stub: str
    template = (
        "{cls}.{stub} cannot send: this {cls} is not connected to a Celery app. "
        "Decorate the class with @celery, and inject it, or take it with container.get({cls})."
    )


class SettingsError(PicoCeleryError, ValueError):
    """A setting under the `celery` prefix that cannot be used."""

    setting: str
    problem: str
    hint: str
    template = "The setting {setting!r} under the prefix 'celery' {problem}. {hint}"
