"""A span around the sending of a message, where OpenTelemetry traces this process.

`opentelemetry-instrumentation-celery` 0.66 ends the span of a sender that does not know the task before the message is
sent, and leaves it open for good where sending fails. So there is a span of ours around both, under which that one, and
with it the task's, hangs.
"""

import functools
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

# Where it is not imported nobody traces, and it need not be installed.
_API: Final = "opentelemetry.trace"

_UNTRACED: Final = nullcontext()


def span_of_sending(task: str) -> AbstractContextManager[Any]:
    """Return a context manager that opens a span, and ends it when the message is sent or has failed.

    Args:
        task: The name of the task that is sent.

    Returns:
        One that does nothing where no tracer provider is set.
    """
    trace = sys.modules.get(_API)
    if trace is None:
        return _UNTRACED
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider):  # none is set yet
        return _UNTRACED
    attributes = {"messaging.system": "celery", "messaging.operation.type": "send", "celery.task_name": task}
    span: AbstractContextManager[Any] = _tracer(provider).start_as_current_span(
        f"send {task}", kind=trace.SpanKind.PRODUCER, attributes=attributes
    )
    return span


@functools.lru_cache(maxsize=8)
def _tracer(provider: Any) -> Any:
    return provider.get_tracer("pico_celery_client")
