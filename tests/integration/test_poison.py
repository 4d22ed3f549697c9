"""Handlers and messages that would harm a worker: it lives, says what happened, and accounts for each message."""

import json
import pickle
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from celery.events.event import get_exchange
from celery.exceptions import NotRegistered, TimeLimitExceeded
from celery.result import AsyncResult
from hypothesis import Phase, given, settings
from kombu import Exchange
from kombu.compression import compress

from pico_celery_core.errors import (
    HandlerArgumentsError,
    HandlerCancelledError,
    HandlerExitError,
)
from pico_celery_core.failures.encoding import ResultEncodingError
from tests import services
from tests.integration.apps.poisons import BASE_EXCEPTIONS, EXCEPTIONS
from tests.integration.workers import Worker, running_worker, sender
from tests.unit.worker.messages import content_types, encodings, headers, payloads
from tests.waiting import eventually

pytestmark = pytest.mark.services

OPTIONS = ("-P", "gevent", "-c", "20", "-E")

# What a worker says when it is worse off than with one task or message less.
HARM = ("Unrecoverable error", "Connection to broker lost", "<Greenlet at")


@dataclass
class Poisoned:
    """A worker, who sends to it, and where its log stood when the test began."""

    process: Worker
    app: Celery
    redis: "redis.Redis"
    began: int = field(default=0)

    def send(self, name: str, *args: Any, **options: Any) -> AsyncResult:
        return self.app.send_task(name, args, **options)

    def get(self, name: str, *args: Any, **options: Any) -> Any:
        return self.send(name, *args, **options).get(timeout=60)

    def publish(self, body: Any, **message: Any) -> None:
        """Send a message as it is."""
        with self.app.producer_pool.acquire() as producer:
            producer.publish(body, routing_key=self.app.conf.task_default_queue, retry=False, **message)

    def logged(self, pattern: str) -> None:
        """Wait until the worker has logged it since the test began."""
        self.process.wait_for_log(pattern, after=self.began)


@contextmanager
def others_left_out(client: "redis.Redis", url: str) -> Iterator[Callable[[], set[str]]]:
    """Look at a database's connections, but not at those that an earlier test has forgotten to close."""
    database = int(url.rpartition("/")[2])

    def connections() -> set[str]:
        return {known["id"] for known in client.client_list() if int(known["db"]) == database}

    others = connections()
    yield lambda: connections() - others


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def running(request: pytest.FixtureRequest) -> Iterator[Poisoned]:
    """One worker for all poison on a broker, which in the end is as well as in the beginning."""
    with services.redis_database() as url, services.rabbitmq_queue() as queue:
        broker = url if request.param == "redis" else services.rabbitmq_url()
        with (
            redis.Redis.from_url(url) as client,
            others_left_out(client, url) as connections,
            sender(broker, url, queue) as app,
            running_worker("poison", *OPTIONS, broker=broker, backend=url, queue=queue) as process,
        ):
            poisoned = Poisoned(process, app, client)
            assert poisoned.get("poison.normal", 1) == 1
            known = connections()
            yield poisoned
            assert known <= connections(), "the worker has connected again"
            assert process.stop() == 0
            assert [line for line in process.lines if "never awaited" in line] == []
            assert client.llen(queue) == 0
            if request.param == "rabbitmq":
                with app.connection_for_read() as connection:
                    assert connection.default_channel.queue_declare(queue, passive=True).message_count == 0


@pytest.fixture
def worker(running: Poisoned) -> Iterator[Poisoned]:
    """The worker, which after each test runs a task, and has told the broker about every message."""
    running.began = len(running.process.lines)
    yield running
    assert running.get("poison.normal", 7) == 7
    log = "".join(running.process.lines[running.began :])
    assert [harm for harm in HARM if harm in log] == []
    eventually(lambda: running.redis.hlen("unacked") == 0)


@pytest.fixture
def redis_worker(worker: Poisoned) -> Poisoned:
    if worker.app.connection_for_write().transport.driver_type != "redis":
        pytest.skip("of Redis alone")
    return worker


# Handlers


@pytest.mark.parametrize("task", ["poison.raise_base", "poison.raise_base_late", "poison.child_raises_base"])
@pytest.mark.parametrize("name", BASE_EXCEPTIONS)
def test_what_is_no_exception_fails_the_task(worker: Poisoned, task: str, name: str) -> None:
    result = worker.send(task, name)
    error = HandlerCancelledError if name == "CancelledError" else HandlerExitError
    with pytest.raises(error, match=rf"{task}\[{result.id}\].*{name}"):
        result.get(timeout=60)
    assert result.state == "FAILURE"
    if name != "GeneratorExit":  # whose traceback Python drops on its way from task to task
        assert "raise base_exception(name)" in result.traceback
    worker.logged(rf"{result.id}\] raised unexpected: {error.__name__}")


@pytest.mark.parametrize("name", BASE_EXCEPTIONS)
def test_what_a_callback_of_the_loop_raises_ends_nothing(worker: Poisoned, name: str) -> None:
    assert worker.get("poison.callback_raises_base", name) == "went on"


def test_clean_up_that_exits_changes_nothing(worker: Poisoned) -> None:
    assert worker.get("poison.cleanup") == "done"
    worker.logged(r"Clean-up FailingCleanups\.exit of poison\.cleanup\[.*\] failed")
    worker.logged(r"Clean-up FailingCleanups\.exit_later of poison\.cleanup\[.*\] failed")


def test_a_component_whose_making_exits_fails_the_task(worker: Poisoned) -> None:
    with pytest.raises(HandlerExitError, match=r"SystemExit\(5\)"):
        worker.get("poison.constructor")


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_exceptions_that_nobody_can_pickle_or_show_fail_the_task(worker: Poisoned, name: str) -> None:
    result = worker.send("poison.raise", name)
    result.get(timeout=60, propagate=False)
    assert result.state == "FAILURE"
    assert "raise exception(name)" in result.traceback
    worker.logged(rf"{result.id}\] raised unexpected")


@pytest.mark.parametrize(
    ("name", "problem"),
    {
        "object": "result, a object",
        "nested": r"result\['orders'\]\[1\]\['customer'\], a object",
        "circular": r"result(\[0\])+, a list",
        "deep": r"result(\[0\])+, a list",
        "keys": "result, a dict",
        "class": "result, a type",
        "unshowable": "result, a Unshowable",
        "exception": "result, a ValueError",
    }.items(),
)
def test_a_result_that_nobody_can_encode_fails_the_task_and_names_the_type(
    worker: Poisoned, name: str, problem: str
) -> None:
    result = worker.send("poison.return", name)
    with pytest.raises(ResultEncodingError, match=f"the json serializer cannot encode {problem}"):
        result.get(timeout=60)
    worker.logged(rf"{result.id}\] raised unexpected: ResultEncodingError")


def test_recursion_without_end_fails_the_task(worker: Poisoned) -> None:
    with pytest.raises(RecursionError):
        worker.get("poison.recurse")


def test_a_traceback_of_nine_hundred_frames_is_stored_whole(worker: Poisoned) -> None:
    result = worker.send("poison.trace", 900)
    with pytest.raises(ValueError, match="far down"):
        result.get(timeout=60)
    assert all(f"in f{number}\n" in result.traceback for number in (0, 450, 900))


@pytest.mark.parametrize("task", ["poison.hang", "poison.block"])
def test_a_handler_that_never_returns_is_ended_by_its_time_limit(worker: Poisoned, task: str) -> None:
    with pytest.raises(TimeLimitExceeded):
        worker.get(task, time_limit=0.3)
    worker.logged(rf"Hard time limit \(0\.3s\) exceeded for {task}")


def test_a_handler_forks(worker: Poisoned) -> None:
    assert worker.get("poison.fork") == 7
    assert worker.get("poison.subprocess") == "through a cat"


def test_ten_megabytes_come_and_go(worker: Poisoned) -> None:
    assert worker.get("poison.size", "x" * 10_000_000) == 10_000_000
    assert len(worker.get("poison.big", 10_000_000)) == 10_000_000


def test_arguments_that_do_not_fit_fail_the_task(worker: Poisoned) -> None:
    for arguments in ([], [1, 2]):
        with pytest.raises(HandlerArgumentsError, match="do not fit"):
            worker.get("poison.normal", *arguments)


# Messages


class Payload:
    """A pickle of it writes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.write_text, (self.path, "a stranger's code has run")


def message(
    body: Any = "[[1], {}, {}]", *, without: str = "", headers: Any = None, **properties: Any
) -> dict[str, Any]:
    """Return a message for a task that returns 1, and what is wrong with it."""
    sent = {"task": "poison.normal", "id": str(uuid.uuid4()), "lang": "py", **(headers or {})}
    sent.pop(without, None)
    return {
        "body": body,
        "headers": sent,
        "content_type": "application/json",
        "content_encoding": "utf-8",
        **properties,
    }


PROPERTIES = {
    "delivery_info": {"exchange": "", "routing_key": "celery"},
    "delivery_tag": "x",
    "body_encoding": "base64",
}


def protocol_1(**body: Any) -> dict[str, Any]:
    """Return a message as Celery 3 has sent them: all that is said of the task is in its body."""
    made = message(json.dumps(body))
    made["headers"] = {}
    return made


INVALID = r"Received invalid task message: "
DECODE = r"Can't decode message body"
UNKNOWN = r"Received and deleted unknown message"
REJECTED = r"A message cannot be received and is rejected"

MESSAGES: dict[str, tuple[dict[str, Any], str]] = {
    "not JSON": (message("{not json"), DECODE),
    "not UTF-8": (message(b"\xff\xfe\x00"), DECODE),
    "deeper than a hundred thousand lists": (message("[" * 100_000 + "]" * 100_000), DECODE),
    "compressed, but not": (message(headers={"compression": "application/x-gzip"}), DECODE),
    "of an unknown compression": (message(headers={"compression": "application/x-nothing"}), DECODE),
    "empty": (message(b""), INVALID + "body does not have three parts"),
    "of no content type": (message(content_type="application/data"), INVALID + "body does not have three parts"),
    "of an unknown content type": (message(content_type="application/x-nothing"), INVALID + "Refusing to deserialize"),
    "YAML": (message(content_type="application/x-yaml"), INVALID + "Refusing to deserialize"),
    "plain text": (message(content_type="text/plain"), INVALID + "Refusing to deserialize"),
    "null": (message("null"), INVALID + "body does not have three parts"),
    "a number": (message("5"), INVALID + "body does not have three parts"),
    "a text": (message('"abcd"'), INVALID + "body does not have three parts"),
    "a mapping": (message('{"a": 1}'), INVALID + "body does not have three parts"),
    "of two parts": (message("[[1], {}]"), INVALID + "body does not have three parts"),
    "of four parts": (message("[[1], {}, {}, {}]"), INVALID + "body does not have three parts"),
    "with text for arguments": (message('["ab", {}, {}]'), INVALID + "args is not a list"),
    "without arguments": (message("[null, {}, {}]"), INVALID + "args is not a list"),
    "with a list for keyword arguments": (message("[[1], [], {}]"), INVALID + "kwargs is not a mapping"),
    "with a list for its third part": (
        message("[[1], {}, [1]]"),
        INVALID + r"the third part of body \(embed\) is not a mapping",
    ),
    "with a chain of numbers": (message('[[1], {}, {"chain": [5]}]'), INVALID + "chain is not a list of signatures"),
    "with a number for callbacks": (message('[[1], {}, {"callbacks": 5}]'), INVALID + "callbacks is not a list"),
    "without an id": (message(without="id"), INVALID + "id is missing"),
    "with a null for an id": (message(headers={"id": None}), INVALID + "id is missing"),
    "with a list for an id": (message(headers={"id": [1]}), INVALID + "id is missing"),
    "without a task": (message(without="task"), UNKNOWN),
    "with a list for a task": (message(headers={"task": [1]}), INVALID + "task is not a string"),
    "with a list for another name": (message(headers={"shadow": [1]}), INVALID + "shadow is not a string"),
    "with one time limit": (message(headers={"timelimit": [5]}), INVALID + "timelimit is not a pair of numbers"),
    "with text for time limits": (message(headers={"timelimit": ["5", "6"]}), INVALID + "timelimit is not a pair"),
    "with a number for stamps": (message(headers={"stamped_headers": 5}), INVALID + "stamped_headers is not a list"),
    "with text for retries": (message(headers={"retries": "x"}), INVALID + "retries is not an integer"),
    "to be run yesterday": (message(headers={"eta": "yesterday"}), INVALID + "eta is not an ISO 8601 time"),
    "to be run at 5": (message(headers={"eta": 5}), INVALID + "eta is not an ISO 8601 time"),
    "that expires at x": (message(headers={"expires": "x"}), INVALID + "expires is not an ISO 8601 time"),
    "to be run before time began": (
        message(headers={"eta": "0001-01-01T00:00:00+23:59"}),
        INVALID + "eta is not an ISO",
    ),
    "with a time limit beyond all time": (message(headers={"timelimit": [2**62, None]}), INVALID + "timelimit is not"),
    "with more retries than there are": (message(headers={"retries": 2**62}), INVALID + "retries is not an integer"),
    "with a list for a depth": (
        message(headers={"replaced_task_nesting": [1]}),
        INVALID + "replaced_task_nesting is not",
    ),
    "with a list for a stamp's name": (
        message(headers={"stamped_headers": [[1]]}),
        INVALID + "stamped_headers is not a list",
    ),
    "with a text for a chord": (message('[[1], {}, {"chord": "x"}]'), INVALID + "chord is not a mapping"),
    "without a task that has no id": (
        message(without="id", headers={"task": "poison.unknown"}),
        INVALID + "id is missing",
    ),
    "of protocol 1, without an id": (protocol_1(task="poison.normal", args=[1], kwargs={}), INVALID + "id is missing"),
    "of protocol 1, with a number for arguments": (
        protocol_1(task="poison.normal", id="an-id", args=5, kwargs={}),
        INVALID + "args is not a list",
    ),
}


@pytest.mark.parametrize("kind", MESSAGES)
def test_a_message_that_is_none_is_rejected_and_logged(worker: Poisoned, kind: str) -> None:
    sent, reason = MESSAGES[kind]
    worker.publish(**sent)
    worker.logged(reason)


FORGED = "x\n[2026-01-01 00:00:00,000: INFO/MainProcess] forged \x1b[2K\r"


@pytest.mark.parametrize("text", [FORGED, "y" * 20_000], ids=["forged", "long"])
def test_no_message_forges_a_line_of_the_log_nor_makes_a_long_one(worker: Poisoned, text: str) -> None:
    for name in ("task", "id", "shadow", "root_id", "parent_id", "argsrepr", "origin", "eta", "compression"):
        for task in ("poison.normal", "poison.raise"):
            worker.publish(**message(headers={"task": task, "id": f"{text}{uuid.uuid4()}", name: text}))
    for body in ([[text], {}, {}], [[1], {text: 1}, {}], {"no task": text}):
        worker.publish(**message(json.dumps(body)))
        worker.publish(**message(json.dumps(body), headers={"task": "poison.unknown"}))
    worker.publish(**protocol_1(task=text, id=text, args=[], kwargs={}))
    worker.publish(**message(content_type=text[:200]))
    worker.publish(**message("{" + text))
    assert worker.get("poison.normal", 8) == 8
    eventually(lambda: worker.redis.hlen("unacked") == 0)
    lines = worker.process.lines[worker.began :]
    assert [line for line in lines if line.startswith("[2026-01-01 00:00:00,000")] == []
    assert [line for line in lines if "\x1b" in line or "\r" in line] == []
    assert [line for line in lines if len(line) > 6000] == []
    assert len([line for line in lines if "forged" in line or "y" * 1000 in line]) > 20


@pytest.mark.parametrize(
    "headers",
    [
        {"timelimit": [10**400, None]},
        {"timelimit": [None, float("inf")]},
        {"timelimit": [float("nan"), None]},
        {"retries": 10**400},
        {"eta": 10**400},
        {"expires": float("inf")},
    ],
    ids=str,
)
def test_numbers_that_only_json_can_carry_are_rejected(redis_worker: Poisoned, headers: dict[str, Any]) -> None:
    redis_worker.publish(**message(headers=headers))
    redis_worker.logged(INVALID + "(timelimit|retries|eta|expires) is not")


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "lzma", "zstd", "brotli"])
def test_a_message_that_becomes_too_large_is_rejected_and_the_worker_as_small_as_before(
    worker: Poisoned, kind: str
) -> None:
    def memory(what: str) -> int:
        [line] = [line for line in status.read_text().splitlines() if line.startswith(what)]
        return int(line.split()[1]) // 1000

    status = Path(f"/proc/{worker.process.process.pid}/status")
    body, compression = compress("0" * 300_000_000, kind)
    before = memory("VmRSS")
    worker.publish(**message(body, headers={"compression": compression}))
    worker.logged(INVALID + "Its body is larger than a message may be")
    assert worker.get("poison.normal", 1) == 1
    assert memory("VmRSS") < before + 50
    assert memory("VmHWM") < 400
    assert worker.get("poison.size", "x" * 1_000_000, compression=kind) == 1_000_000


def test_a_message_that_is_too_large_as_it_comes_is_rejected(worker: Poisoned) -> None:
    worker.publish(**message("[[1], {}, {}]" + " " * 64 * 2**20))
    worker.logged(INVALID + "Its body is larger than a message may be")


def test_what_workers_tell_each_other_can_be_poison_too() -> None:
    """Not on RabbitMQ, where the workers of everybody else would hear it."""
    commands = Exchange("celery.pidbox", "fanout", durable=False)
    broken: list[tuple[Any, dict[str, Any]]] = [("{", {}), (b"junk", {"compression": "gzip"})]
    expected = ("An event of another worker cannot be read and is dropped", "Cannot decode message")

    def is_heard() -> bool:
        """Send it all, for nobody keeps it until the worker listens."""
        with app.producer_pool.acquire() as producer:
            events = get_exchange(producer.connection)
            for exchange, key, messages in (events, "worker.x", [*broken, ("[]", {})]), (commands, "", broken):
                for body, sent in messages:
                    where = {"exchange": exchange, "declare": [exchange], "routing_key": key, "headers": sent}
                    producer.publish(body, content_type="application/json", content_encoding="utf-8", **where)
        return all(said in process.log for said in expected)

    with (
        services.redis_database() as url,
        sender(url, url) as app,
        running_worker("poison", *OPTIONS, broker=url, backend=url, is_alone=False) as process,
    ):
        eventually(is_heard)
        assert app.send_task("poison.normal", [1]).get(timeout=60) == 1
        assert process.stop() == 0


def test_a_message_of_pickle_is_refused_and_not_read(worker: Poisoned, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    payload = pickle.dumps([[Payload(witness)], {}, {}])
    pickle.loads(payload)
    assert witness.exists(), "the payload is one that works"
    witness.unlink()
    properties = {"content_type": "application/x-python-serialize", "content_encoding": "binary"}
    worker.publish(**message(payload, **properties))
    worker.logged(INVALID + r"Refusing to deserialize untrusted content of type pickle")
    worker.publish(**{**message(payload, **properties), "headers": {}})
    worker.logged(DECODE + ".*pickle")
    assert worker.get("poison.normal", 1) == 1
    assert not witness.exists()


def test_a_task_that_nobody_knows_fails(worker: Poisoned) -> None:
    with pytest.raises(NotRegistered, match=r"poison\.unknown"):
        worker.get("poison.unknown")
    worker.logged(r"Received unregistered task of type 'poison\.unknown'")


def test_arguments_in_nine_hundred_lists_arrive(worker: Poisoned) -> None:
    value: list[Any] = []
    for _ in range(900):
        value = [value]
    assert worker.get("poison.deep", value) == 900


def test_messages_of_any_shape_leave_the_worker_as_it_is(redis_worker: Poisoned) -> None:
    """RabbitMQ takes not all of them. `test_validation_fuzz.py` looks at many more, one by one."""

    @settings(max_examples=150, phases=[Phase.generate], deadline=None, database=None)
    @given(payloads("poison.normal"), headers("poison.normal", without=("eta",)), content_types, encodings)
    def publish(body: bytes, sent: dict[str, Any], content_type: str, encoding: str) -> None:
        redis_worker.publish(body, headers=sent, content_type=content_type, content_encoding=encoding)

    publish()
    assert redis_worker.get("poison.normal", 3) == 3


@pytest.mark.parametrize("link", ["callbacks", "chain", "errbacks"])
def test_links_to_nowhere_fail_the_task(worker: Poisoned, link: str) -> None:
    arguments = [1, 2] if link == "errbacks" else [1]
    sent = message(json.dumps([arguments, {}, {link: [{"task": 5, "args": 5, "options": []}]}]))
    worker.publish(**sent)
    result = worker.app.AsyncResult(sent["headers"]["id"])
    result.get(timeout=60, propagate=False)
    assert result.state == "FAILURE"


@pytest.mark.parametrize(
    "item",
    [
        *("garbage", "", "null", "[]", "{}x", "5", b"\xff\xfe", "[" * 100_000),
        json.dumps({"body": 5, "headers": {}, "properties": PROPERTIES}),
        json.dumps({"body": "", "headers": [1], "properties": PROPERTIES}),
        json.dumps({"body": "", "headers": {}, "properties": []}),
        json.dumps({"body": "", "headers": {}}),
        json.dumps({"properties": {"delivery_tag": "7"}}),
    ],
    ids=lambda item: item[:12],
)
def test_what_strangers_push_into_a_list_of_redis_is_dropped(redis_worker: Poisoned, item: Any) -> None:
    redis_worker.redis.lpush(redis_worker.app.conf.task_default_queue, item)
    redis_worker.logged(r"Dropped a malformed message from queue")
