"""Nothing that a connection to RabbitMQ is asked for takes longer than it says, whatever becomes of the network."""

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import kombu
import pytest
from kombu.common import maybe_declare
from kombu.transport import pyamqp

from pico_celery_worker.transports import amqp as rabbitmq
from pico_celery_worker.transports import with_reliable_transport
from tests import services
from tests.integration.faults import Network, network

pytestmark = pytest.mark.services


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Network, str]]:
    """A network, and the URL of RabbitMQ behind it; and little patience."""
    monkeypatch.setattr(rabbitmq, "_ANSWER_TIMEOUT", 0.5)
    monkeypatch.setattr(rabbitmq, "_CLOSE_TIMEOUT", 0.2)
    with network(services.rabbitmq_url()) as there:
        yield there


@pytest.fixture
def connection(between: tuple[Network, str]) -> Iterator[kombu.Connection]:
    with with_reliable_transport(kombu.Connection(between[1], heartbeat=60)) as connection:
        yield connection.connect().client


def test_the_transport_stays_what_it_is():
    def transport(url: str) -> Any:
        return with_reliable_transport(kombu.Connection(url)).get_transport_cls()

    assert issubclass(transport("amqp://localhost"), pyamqp.Transport)
    assert issubclass(transport("amqps://localhost"), pyamqp.SSLTransport)
    assert transport("amqp://localhost") is transport("amqp://localhost")


def test_messages_come(connection):
    bodies = []
    with services.rabbitmq_queue() as name, connection.Consumer(kombu.Queue(name), callbacks=[]) as consumer:
        consumer.register_callback(lambda body, message: bodies.append(body) or message.ack())
        connection.Producer().publish("x", routing_key=name)
        while not bodies:
            connection.drain_events(timeout=60)
    assert bodies == ["x"]


def test_a_timeout_is_kept_although_other_frames_come(connection):
    reads = []
    read = connection.connection.blocking_read
    connection.connection.blocking_read = lambda timeout: reads.append(timeout) or read(timeout)
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.05)
    assert reads == [0.05]


def test_consumers_are_cancelled_without_waiting_for_the_answer(connection):
    """The receive loop reads that, and may be the one that waits."""
    with services.rabbitmq_queue() as name, connection.Consumer(kombu.Queue(name), callbacks=[]) as consumer:
        connection.connection.blocking_read = pytest.fail
        consumer.cancel()
        del connection.connection.blocking_read


@pytest.mark.parametrize("ask", [lambda channel: channel.basic_qos(0, 1, False), lambda channel: channel.close()])
def test_an_answer_that_does_not_come_is_given_up(between, connection, ask: Callable[[Any], Any]):
    channel = connection.channel()
    between[0].lose()
    began = time.monotonic()
    with pytest.raises(connection.connection_errors):
        ask(channel)
    assert time.monotonic() - began < 60


def test_a_lost_connection_is_closed_soon(between, connection):
    connection.default_channel.basic_qos(0, 1, False)
    between[0].lose()
    began = time.monotonic()
    connection.release()
    assert time.monotonic() - began < 60
    assert not connection.connected


@pytest.fixture
def only_heartbeats(connection, monkeypatch) -> kombu.Connection:
    """A connection by which nothing but heartbeats comes, as from a RabbitMQ that is short of memory."""

    def read_frame() -> tuple[int, int, bytes]:
        time.sleep(0.01)
        return 8, 0, b""

    connection.default_channel.basic_qos(0, 1, False)
    monkeypatch.setattr(connection.connection.transport, "read_frame", read_frame)
    return connection


@pytest.mark.parametrize("ask", [lambda channel: channel.basic_qos(0, 1, False), lambda channel: channel.close()])
def test_heartbeats_do_not_begin_the_wait_anew(only_heartbeats, ask: Callable[[Any], Any]):
    channel = only_heartbeats.default_channel
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        ask(channel)
    assert time.monotonic() - began < 60


def test_a_connection_that_has_not_answered_once_is_not_waited_for_again(only_heartbeats, monkeypatch):
    channel, connection = only_heartbeats.default_channel, only_heartbeats.connection
    with pytest.raises(TimeoutError):
        channel.close()
    monkeypatch.setattr(rabbitmq, "_CLOSE_TIMEOUT", 60)
    monkeypatch.setattr(rabbitmq, "_ANSWER_TIMEOUT", 60)
    only_heartbeats.release()
    assert not connection.connected


def test_a_declaration_by_a_channel_that_is_lost_is_not_tried_for_ever(between, connection):
    with with_reliable_transport(kombu.Connection(between[1])) as other:
        lost = other.channel()
        other.connection.transport.sock.shutdown(socket.SHUT_RDWR)
        exchange = kombu.Exchange("pico-celery-tests-declared", auto_delete=True, durable=False)
        with pytest.raises(kombu.exceptions.OperationalError):
            maybe_declare(exchange.bind(connection.channel()), lost, retry=True)


def test_what_is_done_about_messages_meanwhile_is_not_counted(connection, monkeypatch):
    """It may be a wait for a free slot in the pool."""
    taken = []

    def take(message: Any) -> None:
        time.sleep(1)
        taken.append(message)

    with services.rabbitmq_queue() as name, connection.Consumer(kombu.Queue(name), on_message=take, no_ack=True):
        connection.Producer().publish("x", routing_key=name)
        while not taken:
            connection.default_channel.basic_qos(0, 1, False)
    connection.default_channel.basic_qos(0, 1, False)


def publish_until_it_fails(connection: kombu.Connection, channel: Any) -> None:
    while True:
        try:
            channel.basic_publish(channel.prepare_message("x"), routing_key="nowhere")
        except connection.connection_errors:
            return


def test_a_connection_with_consumers_is_not_replaced_by_one_without(between, connection):
    connection.transport.reads = True
    channel = connection.channel()
    between[0].cut()
    publish_until_it_fails(connection, channel)
    assert not connection.connected
    with pytest.raises(connection.connection_errors):
        connection.drain_events(timeout=1)
    connection.collect()


def test_a_connection_without_consumers_is_replaced(between, connection):
    lost, channel = connection.connection, connection.default_channel
    between[0].cut()
    publish_until_it_fails(connection, channel)
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.05)
    assert connection.connected
    lost.collect()
