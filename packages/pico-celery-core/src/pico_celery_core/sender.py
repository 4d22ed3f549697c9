"""What `@send_task` puts in the place of a stub's body."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Final

from pico_celery_core.errors import ClientNotConnectedError

# Under this name a client holds what sends for it. `@celery` lets the container put it there.
INTERCEPTOR: Final = "_pico_celery_interceptor"


def sender(stub: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that sends what a stub stands for.

    It is the method itself that sends, not a proxy around the client: so it sends under whatever name it is reached,
    and fails where nobody has connected its client. A proxy of pico-ioc would refuse a TaskResult besides, which can
    be awaited, from a method that is not async.

    Args:
        stub: The method that `@send_task` stands on.
    """

    def call(client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        interceptor = getattr(client, "__dict__", {}).get(INTERCEPTOR)
        if interceptor is None:
            raise ClientNotConnectedError(type(client).__qualname__, stub.__name__)
        return interceptor.send(client, stub, args, kwargs)

    if inspect.iscoroutinefunction(stub):

        @functools.wraps(stub)
        async def asend(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            return await call(self, args, kwargs)

        return asend

    @functools.wraps(stub)
    def send(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return call(self, args, kwargs)

    return send
