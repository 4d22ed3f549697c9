"""A broker and a result backend in memory: what is used of Celery's private parts, and what waiting there means."""

import threading
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import TimeoutError as CeleryTimeoutError
from kombu import Message
from kombu.exceptions import EncodeError

from pico_celery_core.testing.memory import MemoryBackend, Outbox, keep_in_memory, round_trip


@pytest.fixture
def app() -> Celery:
    """An app whose broker and result backend do not exist."""
    return Celery("tests", broker="amqp://nowhere.invalid", backend="redis://nowhere.invalid", set_as_current=False)


@pytest.fixture
def delivered(app: Celery) -> list[Message]:
    """What the app sends."""
    messages: list[Message] = []
    keep_in_memory(app, Outbox(messages.append), MemoryBackend(app))
    return messages


def test_an_app_sends_to_the_outbox_what_it_would_send_to_its_broker(app, delivered):
    app.send_task("tasks.run", (1, (2,)), {"to": "ada"}, queue="mail", priority=3, compression="gzip", countdown=60)
    (message,) = delivered
    assert message.payload[:2] == [[1, [2]], {"to": "ada"}]
    assert (message.headers["task"], message.headers["compression"]) == ("tasks.run", "application/x-gzip")
    assert (message.properties["priority"], message.delivery_info["routing_key"]) == (3, "mail")
    assert "retry_policy" not in message.properties


def test_what_the_serializer_cannot_encode_is_an_error_of_the_sender(app, delivered):
    with pytest.raises(EncodeError):
        app.send_task("tasks.run", (object(),))
    with pytest.raises(TypeError):
        app.send_task("tasks.run", headers={"tenant": object()})
    assert delivered == []


def test_events_and_remote_control_go_nowhere(app, delivered):
    app.conf.task_send_sent_event = True
    app.send_task("tasks.run").revoke()
    assert len(delivered) == 1


def test_an_app_gets_its_own_back():
    app = Celery("tests", broker="memory://", backend="cache+memory://", set_as_current=False)
    own = app.backend
    messages: list[Message] = []
    restore = keep_in_memory(app, Outbox(messages.append), MemoryBackend(app))
    assert isinstance(app.backend, MemoryBackend)

    restore()

    app.send_task("tasks.run", queue="its-own")  # others have sent into the usual one
    assert app.backend is own
    assert messages == []
    with app.connection_for_read() as connection:
        assert connection.SimpleQueue("its-own").get_nowait().headers["task"] == "tasks.run"


def test_a_result_is_decoded_as_another_process_would(app, delivered):
    result = app.send_task("tasks.run")
    app.backend.store_result(result.id, {"when": (1, 2)}, "SUCCESS")
    assert result.get() == {"when": [1, 2]}
    assert app.backend.task_result_exists(result.id)
    result.forget()
    assert not app.backend.task_result_exists(result.id)


def test_who_waits_for_a_result_is_woken(app, delivered):
    result = app.send_task("tasks.run")
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(result.get(timeout=60)))
    thread.start()
    app.backend.store_result(result.id, "done", "SUCCESS")
    thread.join(60)
    assert got == ["done"]


def test_waiting_has_an_end(app, delivered):
    with pytest.raises(CeleryTimeoutError):
        app.send_task("tasks.run").get(timeout=0.01)


def test_a_counter_counts_from_nothing(app, delivered):
    backend = app.backend
    assert [backend.incr("parts"), backend.incr("parts")] == [1, 2]
    backend.delete("parts")
    assert backend.incr("parts") == 1


def test_a_round_trip_shows_what_arrives():
    assert round_trip([(1,), {2: "two"}], "json") == [[1], {"2": "two"}]
    assert round_trip([(1,), {2: "two"}], "pickle") == [(1,), {2: "two"}]
