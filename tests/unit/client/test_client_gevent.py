"""The client in a process that gevent has patched."""

import subprocess
import sys
import textwrap

PRELUDE = """
    from gevent import monkey
    monkey.patch_all()

    import asyncio, threading, time, types, warnings
    import gevent
    from celery import Celery
    from pico_ioc import DictSource, configuration, init
    from pico_celery import CeleryClient, celery, send_task

    warnings.filterwarnings("ignore", message=".*setex.*")

    @celery
    class Client(CeleryClient):
        @send_task("tasks.run")
        def run(self, number: int) -> str: ...

        @send_task("tasks.run")
        async def arun(self, number: int) -> str: ...

    app = Celery("tests", broker={url!r}, backend={url!r})
    module = types.ModuleType("application")
    module.Client = Client
    config = configuration(DictSource({{"celery": {{}}}}))
    client = init(modules=["pico_celery_client", module], config=config, overrides={{Celery: app}}).get(Client)

    def finish(result):
        gevent.sleep(0.01)
        result.backend.store_result(result.id, "done", "SUCCESS")
"""


def run(url: str, script: str) -> str:
    code = textwrap.dedent(PRELUDE).format(url=url) + textwrap.dedent(script)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_greenlets_send_and_wait_with_sync_stubs(redis_url):
    output = run(
        redis_url,
        """
        def call(number):
            result = client.run(number)
            gevent.spawn(finish, result)
            return result.get(timeout=60)

        print(*{job.get() for job in [gevent.spawn(call, number) for number in range(50)]})
        """,
    )
    assert output == "done\n"


def test_an_event_loop_sends_and_waits_with_async_stubs_while_greenlets_go_on(redis_url):
    output = run(
        redis_url,
        """
        turns = 0

        def others():
            global turns
            while True:
                gevent.sleep(0.001)
                turns += 1

        async def call(number):
            result = await client.arun(number)
            gevent.spawn(finish, result)
            return await result.wait(timeout=60)

        async def main():
            return await asyncio.gather(*map(call, range(50)))

        gevent.spawn(others)
        print(*set(asyncio.run(main())))
        assert turns
        """,
    )
    assert output == "done\n"
