"""Results in Redis are stored several at a time, and are what Celery's backend would have stored."""

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from celery import Celery, states
from celery.app.task import Context
from celery.backends.redis import RedisBackend, SentinelBackend
from celery.exceptions import BackendStoreError

from pico_celery_core.failures.backend import in_full
from pico_celery_worker.consumer import redis_results as module
from pico_celery_worker.consumer import results
from pico_celery_worker.consumer.redis_results import StoresTogether, can_store_together
from pico_celery_worker.consumer.results import outlast_refusals
from pico_celery_worker.group_commit import counts
from tests.servers import OwnRedis, own_redis

# Of Celery's own way to store a result.
pytestmark = pytest.mark.filterwarnings("ignore:.*setex.*:DeprecationWarning")

MakeApp = Callable[..., Celery]


@pytest.fixture
def make_app(redis_url: str) -> Iterator[MakeApp]:
    apps = []

    def make(is_ours: bool = True, url: str = redis_url, **settings: Any) -> Celery:
        app = Celery("tests", broker="memory://", backend=url, set_as_current=False)
        app.conf.update(settings)
        if is_ours:
            outlast_refusals(app)
            assert isinstance(app.backend, StoresTogether)
        apps.append(app)
        return app

    yield make
    for app in apps:
        app.close()


@pytest.fixture
def backend(make_app) -> Any:
    return make_app().backend


@pytest.fixture
def client(redis_url) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def stored_by_script(monkeypatch) -> list[int]:
    """How many results the script was given, each time."""
    seen: list[int] = []
    outcomes = StoresTogether._outcomes

    def note(self: Any, answer: Any, count: int) -> Any:
        seen.append(count)
        return outcomes(self, answer, count)

    monkeypatch.setattr(StoresTogether, "_outcomes", note)
    return seen


@pytest.fixture(autouse=True)
def _a_task_stores(monkeypatch):
    """What is called in these tests is called by a task."""
    monkeypatch.setattr(results, "_is_consumer", lambda: False)


def key(task_id: str) -> str:
    return f"celery-task-meta-{task_id}"


@pytest.fixture(scope="module")
def server() -> Iterator[OwnRedis]:
    with own_redis() as server:
        yield server


OUTCOMES: list[tuple[str, Any, dict[str, Any]]] = [
    (states.SUCCESS, {"total": 3, "names": ["ä", None]}, {}),
    (states.STARTED, {"pid": 1, "hostname": "here"}, {}),
    (states.FAILURE, ValueError("refused"), {}),
    (states.FAILURE, ValueError("refused"), {"result_failure_expires": 50}),
    (states.RETRY, ValueError("again"), {}),
    (states.REVOKED, ValueError("revoked"), {}),
    ("PROGRESS", {"current": 1}, {"result_expires": 100}),
    (states.SUCCESS, 3, {"result_expires": None}),
    (states.SUCCESS, 3, {"result_extended": True}),
    (states.SUCCESS, 3, {"result_backend_transport_options": {"global_keyprefix": "shop:"}}),
]


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_what_is_stored_is_what_celery_stores(make_app, client, stored_by_script, outcome):
    state, result, settings = outcome
    request = Context(id="1", task="tests.task", args=[1], kwargs={}, parent_id="0", group="g", delivery_info={})
    stored = []
    for is_ours in (False, True):
        app = make_app(is_ours, **settings)
        with client.pubsub() as listening:
            listening.psubscribe("*")
            app.backend.store_result("1", result, state, "the traceback", request)
            messages = iter(lambda: listening.get_message(timeout=60), None)
            announced = next(message for message in messages if message["type"] == "pmessage")
        [name] = client.keys()
        kept = client.get(name)
        assert isinstance(kept, str)
        assert announced["channel"] == name
        assert announced["data"] == kept
        meta = json.loads(kept)
        meta.pop("date_done")
        ttl = client.ttl(name)
        stored.append((name, [*json.loads(kept)], meta, ttl if ttl < 0 else round(ttl, -1)))
        client.flushdb()
    assert stored[0] == stored[1]
    assert stored_by_script == [1]


@pytest.mark.parametrize("state", [states.STARTED, states.FAILURE, states.RETRY, states.SUCCESS])
def test_a_success_is_not_overwritten(backend, client, state):
    backend.store_result("1", "first", states.SUCCESS)
    kept = client.get(key("1"))
    backend.store_result("1", ValueError("second") if state == states.FAILURE else "second", state)
    assert client.get(key("1")) == kept


def test_any_other_state_is(backend):
    for state in (states.STARTED, states.RETRY, states.FAILURE, states.SUCCESS):
        is_error = state in states.EXCEPTION_STATES
        backend.store_result("1", ValueError("x") if is_error else "x", state)
        assert backend.get_state("1") == state


def test_many_are_stored_in_one_step_each_with_its_outcome(backend, client):
    backend.store_result("0", "first", states.SUCCESS)
    client.lpush(key("1"), "no result")
    client.set(key("2"), "no JSON")
    client.set(key("3"), "[]")
    value = json.dumps({"status": states.SUCCESS})
    outcomes = backend._run([module._Result(key(str(number)), value, 10) for number in range(6)])
    assert isinstance(outcomes.pop(1), redis.ResponseError)
    assert outcomes == [b"kept", b"unknown", b"unknown", b"stored", b"stored"]
    assert [client.get(key(number)) for number in "2345"] == ["no JSON", "[]", value, value]


def test_where_redis_cannot_tell_what_is_stored_celery_decides(backend, client, monkeypatch):
    client.set(key("1"), "[]")
    monkeypatch.setattr(RedisBackend, "_store_result", lambda *_, **__: client.set(key("1"), "Celery's"))
    backend.store_result("1", "value", states.SUCCESS)
    assert client.get(key("1")) == "Celery's"


@pytest.mark.parametrize("settings", [{"result_serializer": "pickle"}, {"result_compression": "gzip"}])
def test_what_redis_cannot_read_is_stored_by_celery(make_app, stored_by_script, settings):
    backend = make_app(result_accept_content=["json", "pickle"], **settings).backend
    backend.store_result("1", "first", states.SUCCESS)
    backend.store_result("1", "second", states.FAILURE)
    assert (backend.get_result("1"), stored_by_script) == ("first", [])


def test_a_user_who_may_run_no_script_stores_one_by_one(make_app, server, caplog):
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "limited", "reset", "on", ">secret", "~*", "&*", "+@all", "-eval")
    backend = make_app(url=server.url.replace("://", "://limited:secret@")).backend
    with caplog.at_level(logging.WARNING, module.__name__):
        backend.store_result("1", "first", states.SUCCESS)
        backend.store_result("2", "second", states.SUCCESS)
    assert [backend.get_result(task_id) for task_id in "12"] == ["first", "second"]
    [record] = [record for record in caplog.records if record.name == module.__name__]
    assert "Allow the worker's user EVAL" in record.getMessage()


def test_a_redis_that_may_not_write_is_waited_for(make_app, server, monkeypatch):
    backend = make_app(url=server.url, result_backend_max_sleep_between_retries_ms=1).backend
    waits: list[Exception] = []
    with server.client() as client:
        client.config_set("min-replicas-to-write", 1)

        def allow(error: Exception) -> None:
            waits.append(error)
            client.config_set("min-replicas-to-write", 0)

        monkeypatch.setattr(backend, "on_backend_retryable_error", allow)
        backend.store_result("7", "value", states.SUCCESS)
    assert [str(error).partition(" ")[0] for error in waits] == ["NOREPLICAS"]
    assert backend.get_result("7") == "value"


def test_what_is_too_large_for_redis_is_an_error_at_once(backend, monkeypatch):
    monkeypatch.setattr(type(backend), "_MAX_STR_VALUE_SIZE", 10)
    with pytest.raises(BackendStoreError, match="too large"):
        backend.store_result("1", "value", states.SUCCESS)


def test_results_are_counted(backend):
    counts.clear()
    backend.store_result("1", "value", states.SUCCESS)
    assert (counts["store"].batches, counts["store"].items) == (1, 1)


def part(number: int) -> Context:
    return Context(id=str(number), group="g", group_index=number, chord={"task": "tests.callback"})


def test_a_part_of_a_chord_is_noted_as_celery_notes_it(make_app, client):
    noted = []
    for is_ours in (False, True):
        backend = make_app(is_ours).backend
        backend.set_chord_size("g", 3)
        for number in range(2):
            backend.on_chord_part_return(part(number), states.SUCCESS, {"value": number})
        noted.append((sorted(client.keys()), client.zrange(backend.get_key_for_group("g", ".j").decode(), 0, -1)))
        client.flushall()  # and with it the scripts that Redis knows
    assert noted[0] == noted[1]


def test_parts_of_chords_and_results_go_together(backend, client):
    backend.set_chord_size("g", 3)
    backend.on_chord_part_return(part(0), states.SUCCESS, 0)
    seen: list[Any] = []
    backend._commits.submit = lambda item, **_: seen.append(item) or backend._run([item])[0]
    backend.on_chord_part_return(part(0), states.SUCCESS, 0)
    result = module._Result(key("1"), json.dumps({"status": states.SUCCESS}), 0)
    first, second, third = backend._run([seen[0], result, seen[0]])
    assert second == b"stored"
    assert first[0] == third[0] == 1  # the same part, noted again
    assert client.exists(key("1"))


class Derived(RedisBackend):  # type: ignore[misc]
    """A backend of the user's own."""

    def set(self, key: Any, value: Any, **options: Any) -> Any:
        return super().set(key, value, **options)


@pytest.mark.parametrize(
    ("kind", "together"),
    [
        (RedisBackend, True),
        (SentinelBackend, True),
        (Derived, False),
        (in_full(RedisBackend), True),
        (in_full(SentinelBackend), True),
        (in_full(Derived), False),
    ],
)
def test_a_backend_that_stores_in_another_way_goes_on_to(kind, together):
    assert can_store_together(kind) is together


def test_celery_has_what_is_used_here():
    """The private parts, by name."""
    for name in ("_get_result_meta", "_store_result", "_chord_part_return_script", "_MAX_STR_VALUE_SIZE"):
        assert hasattr(RedisBackend, name)
