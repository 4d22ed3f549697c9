"""Tasks that do what no task should, and one that does nothing special."""

import asyncio
import functools
import os
import subprocess
from typing import Any

import gevent
from celery import Celery
from pico_ioc import DictSource, cleanup, component, configuration, init

from pico_celery import task
from tests.integration.apps.poisons import BASE_EXCEPTIONS, EXCEPTIONS, RESULTS


def base_exception(name: str) -> BaseException:
    return BASE_EXCEPTIONS[name]()


def exception(name: str) -> Exception:
    return EXCEPTIONS[name]()


@component(scope="prototype")
class PoisonTasks:
    @task("poison.normal")
    async def normal(self, value: int) -> int:
        await asyncio.sleep(0)
        return value

    @task("poison.size")
    async def size(self, value: str) -> int:
        return len(value)

    @task("poison.big")
    async def big(self, length: int) -> str:
        return "x" * length

    @task("poison.deep")
    async def deep(self, value: Any) -> int:
        levels = 0
        while value:
            value, levels = value[0], levels + 1
        return levels

    @task("poison.raise_base")
    async def raise_base(self, name: str) -> None:
        await asyncio.sleep(0)
        raise base_exception(name)

    @task("poison.raise_base_late", acks_late=True)
    async def raise_base_late(self, name: str) -> None:
        raise base_exception(name)

    @task("poison.child_raises_base")
    async def child_raises_base(self, name: str) -> None:
        """Raise it in an asyncio task of the handler's own."""

        async def child() -> None:
            await asyncio.sleep(0)
            raise base_exception(name)

        await asyncio.create_task(child())

    @task("poison.callback_raises_base")
    async def callback_raises_base(self, name: str) -> str:
        """Raise it in a callback of the loop's, where no handler is."""

        def callback() -> None:
            done.set()
            raise base_exception(name)

        done = asyncio.Event()
        asyncio.get_running_loop().call_soon(callback)
        await done.wait()
        return "went on"

    @task("poison.raise")
    async def raise_exception(self, name: str) -> None:
        raise exception(name)

    @task("poison.return")
    async def return_value(self, name: str) -> Any:
        return RESULTS[name]()

    @task("poison.recurse")
    async def recurse(self) -> None:
        await self.recurse()

    @task("poison.trace")
    async def trace(self, depth: int) -> None:
        """Fail with a traceback of a thousand frames, none of which is like the one before."""
        names: dict[str, Any] = {}
        code = "\n".join(f"def f{n}(fs, x=1):\n    return fs['f{n + 1}'](fs)" for n in range(depth))
        exec(f"{code}\ndef f{depth}(fs): raise ValueError('far down')", names)
        names["f0"](names)

    @task("poison.hang")
    async def hang(self) -> None:
        await asyncio.Event().wait()

    @task("poison.block")
    async def block(self) -> None:
        """Hold up the loop itself, as a client does that waits for a server without a timeout."""
        gevent.sleep(3600)

    @task("poison.fork")
    async def fork(self) -> int:
        child = os.fork()
        if child == 0:
            os._exit(7)
        await asyncio.sleep(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])  # noqa: ASYNC222

    @task("poison.subprocess")
    async def subprocess(self) -> str:
        command = functools.partial(subprocess.run, ["cat"], input="through a cat", capture_output=True, text=True)
        return command(check=True).stdout


@component(scope="prototype")
class FailingCleanups:
    @task("poison.cleanup")
    async def run(self) -> str:
        return "done"

    @cleanup
    def exit(self) -> None:
        raise SystemExit(4)

    @cleanup
    async def exit_later(self) -> None:
        await asyncio.sleep(0)
        raise KeyboardInterrupt


@component(scope="prototype")
class FailingConstructor:
    def __init__(self) -> None:
        raise SystemExit(5)

    @task("poison.constructor")
    async def constructor(self) -> None: ...


settings = {
    "broker_url": os.environ["TEST_BROKER_URL"],
    "backend_url": os.environ["TEST_BACKEND_URL"],
    "task_default_queue": os.environ.get("TEST_QUEUE", "celery"),
    "pico_dead_letters_queue": f"{os.environ.get('TEST_QUEUE', 'celery')}-dead",
    "pico_cancel_timeout": 2,
    "pico_cleanup_timeout": 2,
}
container = init(modules=["pico_celery", __name__], config=configuration(DictSource({"celery": settings})))
app = container.get(Celery)
