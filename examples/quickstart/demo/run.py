"""Runs the quickstart: a worker in a process of its own, and a batch of orders for it."""

import argparse
import asyncio
import signal
import time

from pico_ioc import init

from examples.quickstart.client import Shop
from examples.quickstart.config import config
from examples.quickstart.demo.display import Answer, Display
from examples.quickstart.demo.embedded import broker_in_the_environment
from examples.quickstart.demo.process import run_worker
from examples.quickstart.services import Mailer


async def sell(orders: int, display: Display) -> list[Answer]:
    """Sell as many orders at once, and wait until the worker has confirmed all of them."""
    shop = init(modules=["pico_celery", "examples.quickstart.client"], config=config).get(Shop)
    start = time.monotonic()

    async def wait_for(order: int) -> Answer:
        outcome: str | Exception
        try:
            result = await shop.sell(order, f"customer{order}@shop.example")
            outcome = await result
        except Exception as error:  # noqa: BLE001  # whatever the task raised is an outcome, too
            outcome = error
        return Answer(order, outcome, time.monotonic() - start)

    waiting = [wait_for(order) for order in range(1, orders + 1)]
    with display.progress(orders) as advance:
        answers = []
        for next_answer in asyncio.as_completed(waiting):
            answers.append(await next_answer)
            advance()
    return sorted(answers)


async def demo(orders: int, deadline: float, display: Display) -> int:
    stop_on_signals()
    problem: Exception | None = None
    async with run_worker() as worker:
        display.started(worker)
        try:
            async with asyncio.timeout(deadline):
                await worker.watch(worker.ready())
                display.ready(orders)
                answers = await worker.watch(sell(orders, display))
            display.answers(answers, Mailer.seconds)
            problem = next((answer.outcome for answer in answers if isinstance(answer.outcome, Exception)), None)
        except TimeoutError:
            problem = TimeoutError(f"Not done within {deadline:g} seconds.")
        except Exception as error:  # noqa: BLE001  # the worker's log explains most of them
            problem = error
        finally:
            display.stopping()
    if problem:
        display.failed(problem, worker.log)
    return 1 if problem else 0


def stop_on_signals() -> None:
    """Stop as on Ctrl-C when somebody ends this process or closes its terminal."""
    task = asyncio.current_task()
    assert task
    for name in ("SIGTERM", "SIGHUP"):
        asyncio.get_running_loop().add_signal_handler(getattr(signal, name), task.cancel)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not at least 1")
    return number


def main() -> int:
    parser = argparse.ArgumentParser(prog="hatch run demo", description=__doc__)
    parser.add_argument("--orders", type=_positive, default=50, help="how many orders to sell (default: %(default)s)")
    parser.add_argument("--deadline", type=float, default=30.0, help="seconds until giving up (default: %(default)s)")
    arguments = parser.parse_args()
    display = Display()
    try:
        with broker_in_the_environment() as broker:
            display.broker(broker)
            return asyncio.run(demo(arguments.orders, arguments.deadline, display))
    except (KeyboardInterrupt, asyncio.CancelledError):
        display.interrupted()
        return 130
