"""Publishing to RabbitMQ in batches, with and without confirmations."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from amqp.transport import TCPTransport
from celery import Celery
from kombu import Connection, Queue
from kombu.exceptions import OperationalError

from pico_celery_client import CeleryClient, celery, with_options
from pico_celery_core import send_task
from tests.waiting import eventually

Connect = Callable[..., "Client"]


@celery
class Client(CeleryClient):
    @send_task("tasks.run")
    async def run(self, number: Any) -> int: ...


@pytest.fixture
def connect(container, sending_app, rabbitmq_url, rabbitmq_queue) -> Connect:
    def connect(confirm: bool, **arguments: Any) -> Client:
        app = sending_app(
            rabbitmq_url,
            task_default_queue=rabbitmq_queue,
            broker_transport_options={"confirm_publish": confirm},
            task_queues=[Queue(rabbitmq_queue, queue_arguments=arguments)],
        )
        return container(Client, overrides={Celery: app}).get(Client)

    return connect


@pytest.fixture
def writes(monkeypatch) -> list[int]:
    """How many bytes were written at once, each time."""
    sizes: list[int] = []
    write = TCPTransport.write

    def counted(transport: TCPTransport, data: Any) -> None:
        sizes.append(len(data))
        write(transport, data)

    monkeypatch.setattr(TCPTransport, "write", counted)
    return sizes


def arrived(url: str, queue: str, count: int) -> list[Any]:
    """Take so many numbers, and what else is there, out of a queue.

    They come in order: a batch that takes long is overtaken by the next one, on a connection of its own.
    """
    numbers = []
    with Connection(url) as connection:
        channel = connection.default_channel

        def take() -> bool:
            message = channel.basic_get(queue, no_ack=True)
            if message is not None:
                numbers.append(channel.message_to_python(message).decode()[0][0])
            return message is None and len(numbers) >= count

        eventually(take, timeout=90)
    return sorted(numbers)


@pytest.mark.parametrize("confirm", [True, False])
async def test_messages_are_written_together_and_each_arrives_once(
    connect, rabbitmq_url, rabbitmq_queue, writes, confirm
):
    client = connect(confirm)
    await client.run(-1)
    writes.clear()
    await asyncio.gather(*(client.run(number) for number in range(150)))
    # A machine that is busy makes connections of its own for batches that take long.
    assert len(writes) < 100
    assert max(writes) > 10_000
    await asyncio.gather(*(client.run(number) for number in range(150, 160)))
    assert arrived(rabbitmq_url, rabbitmq_queue, 161) == list(range(-1, 160))


async def test_those_that_rabbitmq_refuses_fail_and_the_others_do_not(connect, rabbitmq_url, rabbitmq_queue):
    client = connect(True, **{"x-max-length": 3, "x-overflow": "reject-publish"})
    await client.run(0)
    outcomes = await asyncio.gather(*(client.run(number) for number in range(1, 7)), return_exceptions=True)
    sent = [number for number, outcome in enumerate(outcomes, 1) if not isinstance(outcome, Exception)]
    assert arrived(rabbitmq_url, rabbitmq_queue, 3) == [0, *sent]
    assert len(sent) == 2


async def test_an_exchange_that_is_not_there_takes_no_other_message_along(connect, rabbitmq_url, rabbitmq_queue):
    client = connect(True)
    await client.run(0)
    lost = with_options(client, exchange="pico-celery-tests-nowhere", routing_key="nowhere")
    outcomes = await asyncio.gather(client.run(1), lost.run(9), client.run(2), return_exceptions=True)
    assert isinstance(outcomes[1], OperationalError)
    assert arrived(rabbitmq_url, rabbitmq_queue, 3) == [0, 1, 2]


@pytest.mark.parametrize("confirm", [True, False])
async def test_a_connection_that_is_lost_is_made_again(connect, rabbitmq_url, rabbitmq_queue, monkeypatch, confirm):
    client = connect(confirm)
    await client.run(0)
    write = TCPTransport.write
    losses = []

    def lose_once(transport: TCPTransport, data: Any) -> None:
        if not losses and len(data) > 1000:
            losses.append(len(data))
            write(transport, data[: len(data) // 2])
            raise ConnectionResetError("lost")
        write(transport, data)

    monkeypatch.setattr(TCPTransport, "write", lose_once)
    await asyncio.gather(*(client.run(number) for number in range(1, 20)))
    assert losses
    assert set(arrived(rabbitmq_url, rabbitmq_queue, 20)) == set(range(20))
