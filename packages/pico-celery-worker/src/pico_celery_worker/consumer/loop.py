"""The receive loop of a worker with greenlets, which takes the place of Celery's `synloop`.

Read in Celery 5.7.0 (`celery.worker.loops`), py-amqp 5.4. Celery's loop for these pools

- waits a tenth of a second for the broker's heartbeats after each message, so that a worker takes no more than ten
  messages a second from RabbitMQ;
- checks heartbeats while it waits for a free slot in the pool and reads nothing, so that it finds none and gives up a
  connection that is well;
- leaves its heartbeat checks behind when a connection is lost, where they open it again or read what others wait for.
"""

from typing import Any

from celery import bootsteps
from celery.worker import state

from pico_celery_worker.consumer.room import Room


class ReceiveLoop:
    """Receives messages by a consumer's connection, and sends and checks the heartbeats of its connections.

    Args:
        consumer: Celery's consumer, connected.
    """

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._connection = consumer.connection
        self._rate: float = consumer.amqheartbeat_rate
        self._receive_message: Any = None
        self._is_reading = False
        self._lost: Exception | None = None
        self._ticks: list[Any] = []
        self._room = Room()

    def run(self) -> None:
        """Receive messages until the worker stops.

        Raises:
            Exception: If the connection is lost.
        """
        consumer = self._consumer
        self._receive_message = consumer.create_task_handler()
        consumer.task_consumer.on_message = self._on_message
        consumer.task_consumer.consume()
        consumer.on_ready()
        self._start_heartbeats()
        try:
            while consumer.blueprint.state == bootsteps.RUN and consumer.connection:
                try:
                    state.maybe_shutdown()
                finally:
                    consumer.perform_pending_operations()
                self._receive()
        except Exception:
            # Not where the worker stops: RabbitMQ needs heartbeats while tasks end and are acknowledged.
            self._stop_heartbeats()
            raise

    def _on_message(self, message: Any) -> None:
        # It is called while the connection is read, and may have to wait for a free slot in the pool.
        self._is_reading = False
        self._room.wait()
        self._receive_message(message)
        self._is_reading = True

    def _receive(self) -> None:
        if self._lost is not None:
            raise self._lost
        qos = self._consumer.qos
        if qos.prev != qos.value:
            qos.update()
        self._is_reading = True
        try:
            self._connection.drain_events(timeout=2.0)
        except TimeoutError:
            """No message has come."""
        except OSError:
            if self._consumer.blueprint.state == bootsteps.RUN:
                raise
        finally:
            self._is_reading = False

    def _start_heartbeats(self) -> None:
        self._repeat(self._connection, self._check)
        dispatcher = self._consumer.event_dispatcher
        if dispatcher is not None and dispatcher.connection:
            self._repeat(dispatcher.connection, self._read_and_check, dispatcher)

    def _repeat(self, connection: Any, tick: Any, *args: Any) -> None:
        seconds = connection.supports_heartbeats and connection.get_heartbeat_interval()
        if seconds:
            entry = self._consumer.timer.call_repeatedly(seconds / self._rate, self._unless_lost, (tick, *args))
            self._ticks.append(entry)

    def _stop_heartbeats(self) -> None:
        while self._ticks:
            self._ticks.pop().cancel()

    def _unless_lost(self, tick: Any, *args: Any) -> None:
        try:
            if self._ticks:
                tick(*args)
        except Exception as error:  # noqa: BLE001  # the loop raises it, where Celery expects it
            self._lost = error

    def _check(self) -> None:
        if self._is_reading:
            self._connection.heartbeat_check(self._rate)
        else:
            # What the broker has sent is still to be read, so that nothing tells whether it is there.
            self._connection.connection.send_heartbeat()

    def _read_and_check(self, dispatcher: Any) -> None:
        connection = dispatcher.connection
        # Who sends an event opens the connection again if it is lost, and reads the answers. One that is read here
        # instead would be missed, and with it the end of the worker, which sends an event too.
        if not connection.connected or not dispatcher.mutex.acquire(blocking=False):
            return
        try:
            connection.drain_events(timeout=0)
        except (OSError, *connection.connection_errors):
            """Nothing has come, or the connection is lost, which the next event finds out."""
        finally:
            dispatcher.mutex.release()
        connection.heartbeat_check(self._rate)
