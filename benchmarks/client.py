"""What the client costs beside bare Celery: sending, waiting for results, importing.

Both sides of a comparison take turns in one run, and the ratio is that of their medians: machines are noisy.
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence

import redis
from celery import Celery, states
from pico_ioc import DictSource, configuration, init
from rich.console import Console
from rich.table import Table

from benchmarks.workers import EMPTY_DATABASE, empty_database
from pico_celery import CeleryClient, TaskResult, celery, send_all, send_task, signature

QUEUE = "pico-celery-benchmark"


@celery
class Client(CeleryClient):
    @send_task("bench.create_user", queue=QUEUE)
    def create(self, username: str, email: str, age: int = 3) -> None: ...

    @send_task("bench.create_user", queue=QUEUE)
    async def acreate(self, username: str, email: str, age: int = 3) -> None: ...


def client_for(app: Celery) -> Client:
    config = configuration(DictSource({"celery": {}}))
    return init(modules=["pico_celery_client", __name__], config=config, overrides={Celery: app}).get(Client)


def sending(url: str, rounds: int, calls: int = 200) -> tuple[float, float]:
    """Return what one message costs, in microseconds: with `send_task`, and through a sync stub."""
    app = Celery("benchmark", broker=url, backend="disabled://", set_as_current=False)
    client = client_for(app)

    def bare() -> None:
        app.send_task("bench.create_user", args=("ada",), kwargs={"email": "a@x", "age": 3}, queue=QUEUE)

    def stub() -> None:
        client.create("ada", email="a@x")

    times = turns([bare, stub], rounds, calls)
    with redis.Redis.from_url(url) as server:
        server.delete(QUEUE)
    return times[0], times[1]


def turns(subjects: Sequence[Callable[[], None]], rounds: int, calls: int) -> list[float]:
    """Return the median time of a call of each, in microseconds of processor time."""
    times: list[list[float]] = [[] for _ in subjects]
    for number in range(rounds + 1):
        for subject, measured in zip(subjects, times, strict=True):
            began = time.process_time()
            for _ in range(calls):
                subject()
            if number:  # the first round warms up
                measured.append((time.process_time() - began) / calls * 1e6)
    return [statistics.median(measured) for measured in times]


async def sending_at_once(client: Client, count: int, width: int = 100) -> tuple[float, float]:
    """Return how many messages async stubs send in a second, and how late others on the loop come: 99 % of them."""
    lags: list[float] = []

    async def tick() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            lags.append(time.perf_counter() - began - 0.001)

    async def send(number: int) -> None:
        for _ in range(number):
            await client.acreate("ada", email="a@x")

    ticking = asyncio.ensure_future(tick())
    began = time.perf_counter()
    await asyncio.gather(*(send(count // width) for _ in range(width)))
    took = time.perf_counter() - began
    ticking.cancel()
    return count / took, sorted(lags)[int(len(lags) * 0.99)]


async def sending_many(client: Client, count: int, rounds: int) -> tuple[float, float]:
    """Return how many messages a second go out in a loop of awaited calls, and by `send_all`."""
    loop: list[float] = []
    many: list[float] = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(count // 5):
            await client.acreate("ada", email="a@x")
        loop.append(count / 5 / (time.perf_counter() - began))
        signatures = [signature(client.acreate, "ada", email="a@x") for _ in range(count)]
        began = time.perf_counter()
        await send_all(signatures)
        many.append(count / (time.perf_counter() - began))
    return statistics.median(loop), statistics.median(many)


async def waiting(url: str, count: int) -> tuple[float, float, int, int]:
    """Return the median and the 99th percentile of the time from a result to who waits for it, connections, threads."""
    app = Celery("benchmark", backend=url, set_as_current=False)
    server = redis.Redis.from_url(url)
    results: list[TaskResult[int]] = [TaskResult(str(uuid.uuid4()), app=app) for _ in range(count)]
    woken: dict[str, float] = {}
    stored: dict[str, float] = {}

    async def wait(result: TaskResult[int]) -> None:
        await result
        woken[result.id] = time.perf_counter()

    def complete() -> None:
        for result in results:
            meta = app.backend.encode({"status": states.SUCCESS, "result": 1, "task_id": result.id})
            key = app.backend.get_key_for_task(result.id)
            with server.pipeline() as pipe:
                pipe.set(key, meta, ex=60).publish(key, meta)
                stored[result.id] = time.perf_counter()
                pipe.execute()

    before, threads = server.info("clients")["connected_clients"], threading.active_count()
    tasks = [asyncio.ensure_future(wait(result)) for result in results]
    while not any(int(client["sub"]) > count for client in server.client_list()):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    connections = server.info("clients")["connected_clients"] - before
    threads = threading.active_count() - threads
    await asyncio.to_thread(complete)
    await asyncio.gather(*tasks)
    delays = sorted(woken[task_id] - began for task_id, began in stored.items())
    return statistics.median(delays), delays[int(count * 0.99)], connections, threads


def importing(rounds: int) -> dict[str, float]:
    """Return how long imports take in a new process, in milliseconds."""
    # What sending needs of Celery anyway: it loads most of itself at the first use.
    sends = "celery.app.amqp, celery.app.task, celery.backends.redis, celery.result, kombu.pools, kombu.transport.redis"
    imports = {
        "Celery": f"import {sends}",
        "Celery and pico-ioc": f"import {sends}, pico_ioc",
        "Celery, pico-ioc and the client": f"import {sends}, pico_ioc, pico_celery_client",
    }
    times: dict[str, list[float]] = {name: [] for name in imports}
    for _ in range(rounds):
        for name, statement in imports.items():
            code = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            times[name].append(float(done.stdout) * 1000)
    return {name: statistics.median(measured) for name, measured in times.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", type=empty_database, default="", help=EMPTY_DATABASE)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--waiters", type=int, default=10_000)
    options = parser.parse_args(arguments)

    table = Table("what", "time", "ratio")
    bare, stub = sending(options.url, options.rounds)
    table.add_row("send_task", f"{bare:.0f} µs", "1")
    table.add_row("sync stub", f"{stub:.0f} µs", f"{stub / bare:.3f}")

    app = Celery("benchmark", broker=options.url, backend=options.url, set_as_current=False)
    rate, lag = asyncio.run(sending_at_once(client_for(app), 5000))
    table.add_row("async stubs, 100 coroutines", f"{rate:.0f} messages/s", "")
    table.add_row("the loop's lag meanwhile, 99 %", f"{lag * 1000:.1f} ms", "")
    loop, many = asyncio.run(sending_many(client_for(app), 5000, 3))
    table.add_row("a loop of awaited calls", f"{loop:.0f} messages/s", "1")
    table.add_row("send_all", f"{many:.0f} messages/s", f"{many / loop:.1f}")
    with redis.Redis.from_url(options.url) as server:
        server.delete(QUEUE)

    median, p99, connections, threads = asyncio.run(waiting(options.url, options.waiters))
    table.add_row(f"wake-up of {options.waiters} waiters, median", f"{median * 1000:.1f} ms", "")
    table.add_row("wake-up, 99 %", f"{p99 * 1000:.1f} ms", "")
    table.add_row("their connections, threads", f"{connections}, {threads}", "")

    times = importing(options.rounds)
    for name, measured in times.items():
        table.add_row(f"import of {name}", f"{measured:.0f} ms", f"{measured / times['Celery']:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
