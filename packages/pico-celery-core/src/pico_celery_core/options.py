"""The options that Celery takes for a task and for a message.

Written out, because declaring a task must not import Celery. Read in Celery 5.7.0; tests/unit/core/test_options.py
compares them with Celery's own.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypedDict

from pico_celery_core.errors import OptionValueError, UnknownOptionError
from pico_celery_core.suggestions import near_miss

if TYPE_CHECKING:
    from kombu.entity import Exchange, Queue


class ExecutionOptions(TypedDict, total=False):
    """What `extract_exec_options` of celery.app.task sends along with a message, where the task says it."""

    compression: str | None
    delivery_mode: "int | str | None"
    exchange: "str | Exchange | None"
    expires: float | datetime | str | None
    immediate: bool | None
    mandatory: bool | None
    priority: int | None
    queue: "str | Queue | None"
    routing_key: str | None
    serializer: str | None
    soft_time_limit: float | None
    time_limit: float | None


class TaskOptions(ExecutionOptions, total=False):
    """What `@task` takes: Celery's options of a task, with times in seconds, and ours.

    An attribute of the task's own `base` class is an option as well, which this does not know: pass it in a dict of
    `Any`, as `@task("orders.confirm", base=Audited, **audit)`.
    """

    # attributes of celery.app.task.Task
    Request: Any
    Strategy: Any
    acks_late: bool | None
    acks_on_failure: bool | None
    acks_on_failure_or_timeout: bool | None
    acks_on_timeout: bool | None
    backend: Any
    default_retry_delay: float
    ignore_result: bool
    max_retries: int | None
    rate_limit: str | float | None
    reject_on_worker_lost: bool | None
    resultrepr_maxsize: int
    retry_on_worker_lost: bool | None
    send_events: bool
    store_eager_result: bool
    store_errors_even_if_ignored: bool
    throws: tuple[type[BaseException], ...]
    track_started: bool | None
    trail: bool
    typing: bool | None
    # hooks of celery.app.task.Task that an option may replace
    after_return: Callable[..., Any]
    before_start: Callable[..., Any]
    on_failure: Callable[..., Any]
    on_replace: Callable[..., Any]
    on_retry: Callable[..., Any]
    on_success: Callable[..., Any]
    shadow_name: Callable[..., str | None]
    # parameters of Celery.task
    base: type[Any] | None
    bind: bool
    pydantic: bool
    pydantic_context: dict[str, Any] | None
    pydantic_dump_kwargs: dict[str, Any] | None
    pydantic_strict: bool
    # read by celery.app.autoretry
    autoretry_for: Sequence[type[BaseException]]
    dont_autoretry_for: Sequence[type[BaseException]]
    override_max_retries: int | None
    retry_backoff: float
    retry_backoff_max: float
    retry_jitter: bool
    retry_kwargs: dict[str, Any]
    # our own
    typed: bool | None


class MessageOptions(ExecutionOptions, total=False):
    """What Celery takes with a message."""

    # parameters of Celery.send_task
    add_to_parent: bool
    chain: Sequence[Any] | None
    chord: Any
    connection: Any
    countdown: float | None
    eta: datetime | str | None
    group_id: str | None
    group_index: int | None
    link: Any
    link_error: Any
    parent_id: str | None
    producer: Any
    reply_to: str | None
    retries: int
    root_id: str | None
    route_name: str | None
    router: Any
    shadow: str | None
    task_id: str | None
    # parameters of the message and of its publication
    argsrepr: str | None
    confirm_timeout: float | None
    correlation_id: str | None
    declare: Sequence[Any] | None
    exchange_type: str | None
    expiration: float | None
    headers: Mapping[str, Any] | None
    ignore_result: bool
    kwargsrepr: str | None
    origin: str | None
    retry: bool | None
    retry_policy: Mapping[str, Any] | None
    stamped_headers: Sequence[str] | None
    timeout: float | None
    # properties of an AMQP message that Celery leaves alone
    app_id: str
    message_id: str
    timestamp: "datetime | int"
    type: str
    user_id: str


class SendOptions(MessageOptions, total=False):
    """What `@send_task` and `with_options` take: Celery's options of a message, and ours; times are in seconds.

    Stamps, which `stamped_headers` name, are options as well, which this does not know: pass them in a dict of `Any`.

    Example:
        >>> from typing import Any
        >>> from pico_celery import SendOptions, with_options
        >>> urgent: SendOptions = {"queue": "urgent", "priority": 9}
        >>> stamps: dict[str, Any] = {"trace": "t-1"}
        >>> def urgently(client):
        ...     return with_options(client, **urgent, stamped_headers=list(stamps), **stamps)
    """

    publish_timeout: float | None
    typed: bool | None


_EXECUTION_OPTIONS: Final = ExecutionOptions.__optional_keys__
TASK_OPTIONS: Final = TaskOptions.__optional_keys__
SEND_OPTIONS: Final = MessageOptions.__optional_keys__

# Our own: how long an `async def` stub may take to send, in seconds.
PUBLISH_TIMEOUT: Final = "publish_timeout"
# Our own: whether values become what the annotations say; None leaves it to the setting `pico_typed_values`.
TYPED: Final = "typed"
_KNOWN: Final = SEND_OPTIONS | {PUBLISH_TIMEOUT, TYPED}


def check_task_options(where: str, options: Mapping[str, Any]) -> None:
    """Raise `UnknownOptionError` for an option that neither Celery nor the task's own `base` knows."""
    base = options.get("base")
    _check(where, TASK_OPTIONS, (option for option in options if not hasattr(base, option)))


def check_send_options(where: str, options: Mapping[str, Any], *others: Mapping[str, Any]) -> None:
    """Raise `UnknownOptionError` for an option that Celery does not take with a message, stamps aside.

    Args:
        where: What the options were given to.
        options: The options.
        *others: What they are going to be merged with, which may name stamps as well.

    Raises:
        OptionValueError: If `publish_timeout` is no number of seconds.
    """
    stamps = {stamp for given in (options, *others) for stamp in _stamps(given)}
    _check(where, _KNOWN, (option for option in options if option not in stamps))
    timeout = options.get(PUBLISH_TIMEOUT)
    if timeout is not None and not (isinstance(timeout, (int, float)) and timeout >= 0):
        hint = "Give a number of seconds, or 0 for no limit."
        raise OptionValueError(where, PUBLISH_TIMEOUT, repr(timeout), hint)


def merged_send_options(*options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of which the later win, with those stamps only that `stamped_headers` still names.

    Mappings and lists in them are copies, for Celery and what instruments it change them: Sentry takes its own entries
    out of `headers`.

    Example:
        >>> merged_send_options({"stamped_headers": ["trace"], "trace": 1}, {"stamped_headers": ["user"], "user": 2})
        {'stamped_headers': ['user'], 'user': 2}
    """
    merged = {name: value for given in options for name, value in given.items()}
    stamps = _stamps(merged)
    return {name: _copied(value) for name, value in merged.items() if name in _KNOWN or name in stamps}


def _copied(value: Any) -> Any:
    # Signatures are of a class of their own, and have state that their copies share.
    if type(value) is dict:
        return {key: _copied(item) for key, item in value.items()}
    if type(value) is list:
        return [_copied(item) for item in value]
    return value


def missing_stamp(options: Mapping[str, Any]) -> str:
    """Return the name of a stamp that the options list and lack, or an empty string."""
    return next((stamp for stamp in _stamps(options) if stamp not in options), "")


def _stamps(options: Mapping[str, Any]) -> Iterable[str]:
    return options.get("stamped_headers") or ()


def _check(where: str, known: frozenset[str], options: Iterable[str]) -> None:
    for option in options:
        if option not in known:
            raise UnknownOptionError(where, option, near_miss(option, known))
