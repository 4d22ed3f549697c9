"""The options that Celery takes for a task and for a message.

Written out, because declaring a task must not import Celery. Read in Celery 5.7.0; tests/unit/core/test_options.py
compares them with Celery's own.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pico_celery_core.errors import OptionValueError, UnknownOptionError, near_miss

# What `extract_exec_options` of celery.app.task sends along with a message, where the task says it.
_EXECUTION_OPTIONS: Final = frozenset(
    {
        "compression",
        "delivery_mode",
        "exchange",
        "expires",
        "immediate",
        "mandatory",
        "priority",
        "queue",
        "routing_key",
        "serializer",
        "soft_time_limit",
        "time_limit",
    }
)

TASK_OPTIONS: Final = _EXECUTION_OPTIONS | {
    # attributes of celery.app.task.Task
    "Request",
    "Strategy",
    "acks_late",
    "acks_on_failure",
    "acks_on_failure_or_timeout",
    "acks_on_timeout",
    "backend",
    "default_retry_delay",
    "ignore_result",
    "max_retries",
    "rate_limit",
    "reject_on_worker_lost",
    "resultrepr_maxsize",
    "retry_on_worker_lost",
    "send_events",
    "store_eager_result",
    "store_errors_even_if_ignored",
    "throws",
    "track_started",
    "trail",
    "typing",
    # hooks of celery.app.task.Task that an option may replace
    "after_return",
    "before_start",
    "on_failure",
    "on_replace",
    "on_retry",
    "on_success",
    "shadow_name",
    # parameters of Celery.task
    "base",
    "bind",
    "pydantic",
    "pydantic_context",
    "pydantic_dump_kwargs",
    "pydantic_strict",
    # read by celery.app.autoretry
    "autoretry_for",
    "dont_autoretry_for",
    "override_max_retries",
    "retry_backoff",
    "retry_backoff_max",
    "retry_jitter",
    "retry_kwargs",
}

SEND_OPTIONS: Final = _EXECUTION_OPTIONS | {
    # parameters of Celery.send_task
    "add_to_parent",
    "chain",
    "chord",
    "connection",
    "countdown",
    "eta",
    "group_id",
    "group_index",
    "link",
    "link_error",
    "parent_id",
    "producer",
    "reply_to",
    "retries",
    "root_id",
    "route_name",
    "router",
    "shadow",
    "task_id",
    # parameters of the message and of its publication
    "argsrepr",
    "confirm_timeout",
    "correlation_id",
    "declare",
    "exchange_type",
    "expiration",
    "headers",
    "ignore_result",
    "kwargsrepr",
    "origin",
    "retry",
    "retry_policy",
    "stamped_headers",
    "timeout",
    # properties of an AMQP message that Celery leaves alone
    "app_id",
    "message_id",
    "timestamp",
    "type",
    "user_id",
}


# Our own: how long an `async def` stub may take to send, in seconds.
PUBLISH_TIMEOUT: Final = "publish_timeout"
_KNOWN: Final = SEND_OPTIONS | {PUBLISH_TIMEOUT}


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

    Example:
        >>> merged_send_options({"stamped_headers": ["trace"], "trace": 1}, {"stamped_headers": ["user"], "user": 2})
        {'stamped_headers': ['user'], 'user': 2}
    """
    merged = {name: value for given in options for name, value in given.items()}
    stamps = _stamps(merged)
    return {name: value for name, value in merged.items() if name in _KNOWN or name in stamps}


def missing_stamp(options: Mapping[str, Any]) -> str:
    """Return the name of a stamp that the options list and lack, or an empty string."""
    return next((stamp for stamp in _stamps(options) if stamp not in options), "")


def _stamps(options: Mapping[str, Any]) -> Iterable[str]:
    return options.get("stamped_headers") or ()


def _check(where: str, known: frozenset[str], options: Iterable[str]) -> None:
    for option in options:
        if option not in known:
            raise UnknownOptionError(where, option, near_miss(option, known))
