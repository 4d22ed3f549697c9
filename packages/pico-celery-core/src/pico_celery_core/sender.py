"""What `@send_task` puts in the place of a stub's body."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Final

from pico_celery_core.contract.signatures import message_signature
from pico_celery_core.errors import ClientNotConnectedError
from pico_celery_core.sensitive import is_sensitive
from pico_celery_core.tracebacks import drop_frames

# Under this name a client holds what sends for it. `@celery` lets the container put it there.
INTERCEPTOR: Final = "_pico_celery_interceptor"


def sender(stub: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that sends what a stub stands for.

    It is the method itself that sends, not a proxy around the client: so it sends under whatever name it is reached,
    and fails where its client is not connected. A proxy of pico-ioc would refuse a TaskResult besides, which can
    be awaited, from a method that is not async.

    Args:
        stub: The method that `@send_task` stands on.
    """

    def call(client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        interceptor = getattr(client, "__dict__", {}).get(INTERCEPTOR)
        if interceptor is None:
            raise ClientNotConnectedError(type(client).__qualname__, stub.__name__)
        return interceptor.send(client, stub, args, kwargs)

    def hide_arguments(error: BaseException) -> None:
        if any(is_sensitive(parameter.annotation) for parameter in message_signature(stub).parameters.values()):
            drop_frames(error)

    if inspect.iscoroutinefunction(stub):

        @functools.wraps(stub)
        async def asend(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            try:
                return await call(self, args, kwargs)
            except BaseException as error:
                hide_arguments(error)
                raise

        return asend

    @functools.wraps(stub)
    def send(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        try:
            return call(self, args, kwargs)
        except BaseException as error:
            hide_arguments(error)
            raise

    return send
