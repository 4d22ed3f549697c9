"""What it costs to build a task component with three prototype dependencies, beside `container.aget`."""

import asyncio
import os
import time

from rich.console import Console
from rich.table import Table

os.environ.setdefault("BENCH_BROKER", "memory://")
os.environ.setdefault("BENCH_BACKEND", "cache+memory://")

from benchmarks.apps.injected import BenchTasks, app, container
from pico_celery_worker.execution.scope import TaskScope


async def main() -> None:
    plan = app.tasks["bench.noop"].executor.plan
    await plan.prepare()

    async def planned() -> None:
        async with TaskScope(container, "bench", 1) as scope:
            await plan.resolve(scope)

    async def asked() -> None:
        await container.aget(BenchTasks)

    async def measure(build, count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            await build()
        return (time.perf_counter() - began) / count * 1e6

    await measure(planned, 1000)
    plan_cost, container_cost = await measure(planned, 20_000), await measure(asked, 500)
    table = Table(title="One task component with three prototypes")
    for column in ("by", "µs", "ratio"):
        table.add_column(column, justify="left" if column == "by" else "right")
    table.add_row("its plan, in a scope of its own", f"{plan_cost:.1f}", "1")
    table.add_row("container.aget", f"{container_cost:.1f}", f"{container_cost / plan_cost:.0f}")
    Console().print(table)


if __name__ == "__main__":
    asyncio.run(main())
