"""The ledger: tasks are sent while everything fails that can fail, and then each is accounted for.

    hatch run ledger --broker redis --tasks 10000 --seed 7

sends identified tasks with `acks_late` to gevent workers, and meanwhile, at random from the seed, kills, stops and
pauses workers, some while they wait for an answer, some for longer than the visibility timeout, and lets them open no
files, cuts the network between them
and the broker, or lets it lose what is sent, restarts and stalls the broker, lets it run out of memory, takes the
result backend away, and has it refuse what is to be stored. In the end, of what was accepted everything has to be
finished at least once, and its result stored; and what ran twice has to be explained by a fault that struck it.
"""

import argparse
import itertools
import json
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from celery import Celery, states
from rich.console import Console
from rich.table import Table

from tests.integration.faults import Network, network, no_file_to_open
from tests.integration.stations import KINDS, queue_of
from tests.integration.workers import Worker
from tests.servers import REFUSALS, OwnRabbitMQ, OwnRedis, own_rabbitmq, own_redis

VISIBILITY_TIMEOUT = 5

SETTINGS = {
    "broker_heartbeat": 2,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "broker_transport_options": {
        "socket_timeout": 2,
        "socket_connect_timeout": 2,
        "health_check_interval": 1,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        "visibility_timeout": VISIBILITY_TIMEOUT,
    },
    "result_backend_transport_options": {"socket_timeout": 2},
}

# What becomes known of a fault, or is undone, some time after it: the clock of the visibility timeout, for instance.
_AFTER_EFFECT = VISIBILITY_TIMEOUT + 5

_LONGEST_WAIT = 120

# The signals that end a worker.
_ENDS = (signal.SIGKILL, signal.SIGQUIT, signal.SIGTERM)


@dataclass
class Execution:
    """One time that a task ran, or began to."""

    task: str
    pid: int
    began: float
    ended: float | None = None
    outcome: str = "cut off"
    cleaned: int = 0


@dataclass(frozen=True)
class Fault:
    """Something that went wrong.

    Args:
        kind: What.
        began: When.
        ended: When it was over.
        pid: Whom it struck; None for all workers.
    """

    kind: str
    began: float
    ended: float
    pid: int | None = None


@dataclass
class Account:
    """What came of it.

    Args:
        accepted: When each task that its sender believes sent was sent, by its id: from when to when.
        refused: Tasks that could not be sent.
        faults: What went wrong.
        executions: All of them.
        alive: The workers that lived to the end.
        descriptors: Of each of them, open files and connections in the end.
        stored: Tasks whose success is in the result backend.
        asyncio_tasks: Of each of them, in the end.
        left: Messages that are still in the broker.
    """

    accepted: dict[str, tuple[float, float]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    executions: list[Execution] = field(default_factory=list)
    alive: set[int] = field(default_factory=set)
    descriptors: list[int] = field(default_factory=list)
    stored: set[str] = field(default_factory=set)
    asyncio_tasks: list[int] = field(default_factory=list)
    left: int = 0

    @property
    def lost(self) -> list[str]:
        """Tasks that were accepted, and never finished."""
        finished = {each.task for each in self.executions if each.outcome == "finished"}
        return [task for task in self.accepted if task not in finished]

    @property
    def unanswered(self) -> list[str]:
        """Tasks that were accepted, and of which nobody would hear that they succeeded."""
        return [task for task in self.accepted if task not in self.stored]

    @property
    def unbalanced(self) -> list[Execution]:
        """Executions that were not cleaned up exactly once, except for those that were cut off with their worker."""
        killed = {fault.pid for fault in self.faults if fault.kind.startswith("worker killed")}
        return [
            each for each in self.executions if each.cleaned != 1 and not (each.cleaned == 0 and each.pid in killed)
        ]

    @property
    def at_once(self) -> list[str]:
        """Tasks that ran twice at the same time in the same worker."""
        found = []
        for task, executions in self._by_task().items():
            if self._was_sent_in_doubt(task):
                continue  # there may be two messages
            for each, other in itertools.pairwise(executions):
                if each.pid == other.pid and (each.ended is None or each.ended > other.began):
                    found.append(task)
        return found

    def repeated(self) -> Counter[str]:
        """Count executions after a task's first, by the fault that explains them."""
        causes: Counter[str] = Counter()
        for task, executions in self._by_task().items():
            for each, other in itertools.pairwise(executions):
                causes[self._cause(task, each, other)] += 1
        return causes

    @property
    def problems(self) -> list[str]:
        """What must not be."""
        unexplained = self.repeated()[UNEXPLAINED]
        found = [
            (self.lost, f"lost: {self.lost[:5]}"),
            (self.unanswered, f"without a result: {self.unanswered[:5]}"),
            (unexplained, f"{unexplained} executions that nothing explains"),
            (self.at_once, f"twice at once in one worker: {self.at_once[:5]}"),
            (self.unbalanced, f"not cleaned up once: {self.unbalanced[:5]}"),
            (self.left, f"{self.left} messages left in the broker"),
            (max(self.asyncio_tasks, default=0) > IDLE_TASKS, f"asyncio tasks left: {self.asyncio_tasks}"),
            (max(self.descriptors, default=0) > IDLE_DESCRIPTORS, f"descriptors left: {self.descriptors}"),
        ]
        return [problem for is_so, problem in found if is_so]

    def table(self, title: str) -> Table:
        table = Table("what", "how many", title=title)
        table.columns[1].justify = "right"
        outcomes = Counter(each.outcome for each in self.executions)
        rows = [
            ("tasks accepted", len(self.accepted)),
            ("tasks refused by the broker, as their sender knows", len(self.refused)),
            ("tasks lost", len(self.lost)),
            ("tasks without a result", len(self.unanswered)),
            None,
            *((f"fault: {kind}", count) for kind, count in sorted(Counter(f.kind for f in self.faults).items())),
            None,
            ("executions", len(self.executions)),
            *((f"executions {outcome}", count) for outcome, count in sorted(outcomes.items())),
            ("executions not cleaned up once, though their worker lived", len(self.unbalanced)),
            ("tasks twice at once in one worker", len(self.at_once)),
            *((f"repeated: {cause}", count) for cause, count in sorted(self.repeated().items())),
            None,
            ("messages left in the broker", self.left),
            ("asyncio tasks left in a worker, at most", max(self.asyncio_tasks, default=0)),
            ("open descriptors of a worker, at most", max(self.descriptors, default=0)),
        ]
        for row in rows:
            if row is None:
                table.add_section()
            else:
                table.add_row(row[0], f"{row[1]:,}")
        return table

    def _by_task(self) -> dict[str, list[Execution]]:
        found: dict[str, list[Execution]] = {}
        for each in sorted(self.executions, key=lambda each: each.began):
            found.setdefault(each.task, []).append(each)
        return found

    def _was_sent_in_doubt(self, task: str) -> bool:
        """Tell whether the broker may have taken a message without telling, so that it was sent again."""
        began, ended = self.accepted.get(task, (0.0, float("inf")))
        return any(
            fault.kind.startswith("broker") and fault.began <= ended and began <= fault.ended for fault in self.faults
        )

    def _cause(self, task: str, earlier: Execution, later: Execution) -> str:
        if self._was_sent_in_doubt(task):
            return "sent while the broker failed, perhaps twice"
        struck = [
            fault
            for fault in self.faults
            if fault.began <= later.began
            and earlier.began <= fault.ended + _AFTER_EFFECT
            and fault.pid in (None, earlier.pid)
        ]
        ends = [fault for fault in struck if fault.kind.startswith(("worker killed", "worker stopped"))]
        if ends:
            how = "and the task with it" if earlier.outcome != "finished" else "before it could acknowledge"
            return f"{ends[-1].kind}, {how}"
        # That results wait is the least of what can keep a message from being acknowledged.
        struck.sort(key=lambda fault: (fault.kind.startswith("result backend"), -fault.began))
        return struck[0].kind if struck else UNEXPLAINED


UNEXPLAINED = "unexplained"

# What runs on an idle worker's loop.
IDLE_TASKS = 0

# What an idle worker may have open: its log, the loop's own, and connections: for messages, events, results, and up to
# sixteen for answers.
IDLE_DESCRIPTORS = 70


class Crew:
    """The workers: there are always as many, whatever happens to one.

    Args:
        size: How many.
        environment: Of each.
        folder: Where they write.
    """

    def __init__(self, size: int, environment: dict[str, str], folder: Path) -> None:
        self._environment = {**environment, "TEST_LEDGER": str(folder)}
        self.ended: list[Worker] = []
        self.running = [self._start() for _ in range(size)]
        for worker in self.running:
            self.wait_until_ready(worker)

    def strike(self, worker: Worker, number: signal.Signals) -> None:
        """Send a signal that ends a worker, and hire another in its place."""
        worker.process.send_signal(number)
        self.running.remove(worker)
        self.ended.append(worker)
        self.running.append(self._start())

    def close(self) -> None:
        """Stop all.

        Raises:
            AssertionError: If one has not ended as it should.
        """
        for worker in self.running:
            worker.process.terminate()
        for worker in (*self.running, *self.ended):
            code = worker.wait(120)
            # One that only starts has no handlers for signals yet.
            expected = {0, -signal.SIGKILL} if "ready." in worker.log else {0, *(-number for number in _ENDS)}
            assert code in expected, f"{worker.log}\nThis worker ended with {code}."

    def kill(self) -> None:
        for worker in (*self.running, *self.ended):
            worker.end()

    def _start(self) -> Worker:
        arguments = ["-A", "tests.integration.apps.ledger", "worker", "-P", "gevent", "-c", "20", "-l", "INFO"]
        return Worker([*arguments, "--without-mingle", "-n", f"{random.getrandbits(64):x}@%h"], self._environment)

    @staticmethod
    def wait_until_ready(worker: Worker) -> None:
        """Wait until a worker takes messages."""
        worker.wait_for_log(r"ready\.", 120)


@dataclass
class Scene:
    """What there is to go wrong."""

    crew: Crew
    between: Network
    broker: OwnRedis | OwnRabbitMQ
    results: OwnRedis
    faults: list[Fault]
    random: random.Random

    def strike(self) -> None:
        """Let one thing go wrong, and wait until it is over."""
        began = time.time()
        kind, strike = self.random.choice(self._choices())
        pid = strike()
        self.faults.append(Fault(kind, began, time.time(), pid))

    def _choices(self) -> list[tuple[str, Callable[[], int | None]]]:
        choices: list[tuple[str, Callable[[], int | None]]] = [
            ("worker killed", lambda: self._end_one(signal.SIGKILL)),
            ("worker killed between storing and settling", lambda: self._end_one_amid_a_batch(self.results)),
            ("worker stopped cold", lambda: self._end_one(signal.SIGQUIT)),
            ("worker stopped warm", lambda: self._end_one(signal.SIGTERM)),
            ("worker paused", self._pause_one),
            ("worker paused beyond the visibility timeout", lambda: self._pause_one(VISIBILITY_TIMEOUT)),
            ("broker ends connections", self.broker.close_connections),
            ("memory alarm", self._run_out_of_memory),
            ("descriptors exhausted", self._exhaust_one),
            ("network cut", self.between.cut),
            ("network refuses", self._refuse),
            ("network loses", self._lose),
            ("result backend gone", lambda: self._for_a_while(self.results.stop, self.results.start)),
            ("result backend refuses", self._refuse_results),
        ]
        broker = self.broker
        if isinstance(broker, OwnRedis):
            choices += [
                ("broker restarted", lambda: self._for_a_while(broker.stop, broker.start)),
                ("broker stalls", lambda: self._for_a_while(broker.stall, broker.go_on)),
                ("worker killed between taking and settling", lambda: self._end_one_amid_a_batch(broker)),
            ]
        return choices

    def _end_one(self, number: signal.Signals) -> int:
        worker = self.random.choice(self.crew.running)
        self.crew.strike(worker, number)
        return worker.process.pid

    def _end_one_amid_a_batch(self, server: OwnRedis) -> int:
        """Kill a worker while what it has asked of Redis has no answer yet, and is executed after its death."""
        server.stall()
        time.sleep(self.random.uniform(0.05, 0.5))
        try:
            return self._end_one(signal.SIGKILL)
        finally:
            server.go_on()

    def _pause_one(self, at_least: float = 0) -> int:
        worker = self.random.choice(self.crew.running)
        self._for_a_while(
            lambda: worker.process.send_signal(signal.SIGSTOP),
            lambda: worker.process.send_signal(signal.SIGCONT),
            at_least,
        )
        return worker.process.pid

    def _run_out_of_memory(self) -> None:
        for worker in self.crew.running:
            self.crew.wait_until_ready(worker)  # one that starts ends where the broker refuses what it asks
        with self.broker.memory_alarm():
            self._for_a_while()

    def _exhaust_one(self) -> int:
        worker = self.random.choice(self.crew.running)
        self.crew.wait_until_ready(worker)  # one that only starts cannot even load its modules
        with no_file_to_open(worker.process.pid):
            time.sleep(self.random.uniform(0.2, 3))
        return worker.process.pid

    def _refuse(self) -> None:
        self._for_a_while(self.between.refuse, self.between.recover)

    def _lose(self) -> None:
        self._for_a_while(self.between.lose, self.between.recover)

    def _refuse_results(self) -> None:
        error = self.random.choice(REFUSALS)
        self._for_a_while(lambda: self.results.refuse_writes(error), self.results.take_writes)

    def _for_a_while(
        self,
        begin: Callable[[], object] = lambda: None,
        end: Callable[[], object] = lambda: None,
        at_least: float = 0,
    ) -> None:
        begin()
        time.sleep(at_least + self.random.uniform(0.2, 3))
        end()


def run(kind: str, tasks: int, rate: float, workers: int, seed: int) -> tuple[Account, list[Worker]]:
    """Send tasks while things go wrong, wait until all is done, and account for it.

    Args:
        kind: One of KINDS.
        tasks: How many to send.
        rate: How many a second.
        workers: How many worker processes.
        seed: Of the faults.

    Returns:
        The account, and the workers that have ended, for their logs.
    """
    account = Account()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        results = stack.enter_context(own_redis())
        queue = "celery"
        broker = stack.enter_context(own_redis() if kind == "redis" else own_rabbitmq())
        url = broker.url
        between, through = stack.enter_context(network(url))
        crew = Crew(
            workers,
            {
                "TEST_BROKER_URL": through,
                "TEST_BACKEND_URL": results.url,
                "TEST_QUEUE": queue,
                "TEST_QUORUM": "1" if kind == "quorum" else "",
                "TEST_SETTINGS": json.dumps(SETTINGS),
            },
            folder,
        )
        stack.callback(crew.kill)
        chance = random.Random(seed)
        scene = Scene(crew, between, broker, results, account.faults, chance)
        app = stack.enter_context(_sender(kind, url, queue))

        sending = threading.Thread(target=_send, args=(app, account, tasks, rate, random.Random(seed)))
        sending.start()
        while sending.is_alive():
            time.sleep(chance.uniform(0.1, 1.5))
            scene.strike()
        sending.join()

        _wait_until(lambda: not _read(account, folder).lost, _LONGEST_WAIT)
        _wait_until(lambda: not _read_results(account, results).unanswered, _LONGEST_WAIT)
        for worker in crew.running:
            worker.wait_for_log(r"ready\.", 120)
        account.alive = {worker.process.pid for worker in crew.running}
        _wait_until(lambda: all(each.cleaned for each in _of_the_living(_read(account, folder))), 90)
        _wait_until(lambda: _count(app, queue, kind, broker) == 0, _AFTER_EFFECT + 90)
        account.left = _count(app, queue, kind, broker)
        account.asyncio_tasks = _asyncio_tasks(app, workers)
        account.descriptors = [sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()) for pid in account.alive]
        crew.close()
        _read(account, folder)
        return account, [*crew.ended, *crew.running]


@contextmanager
def _sender(kind: str, url: str, queue: str) -> Iterator[Celery]:
    app = Celery("sender", broker=url, set_as_current=False)
    app.conf.update(
        task_default_queue=queue,
        task_queues=[queue_of(kind, queue)],
        broker_transport_options={"confirm_publish": True} if kind != "redis" else {"socket_timeout": 5},
        task_publish_retry_policy={"max_retries": 20, "interval_start": 0.1, "interval_step": 0.1, "interval_max": 0.5},
    )
    try:
        yield app
    finally:
        app.close()


def _send(app: Celery, account: Account, tasks: int, rate: float, chance: random.Random) -> None:
    began = time.monotonic()
    for number in range(tasks):
        task_id = f"task-{number}"
        seconds = 8.0 if chance.random() < 0.01 else chance.expovariate(2)
        since = time.time()
        try:
            app.send_task("ledger.work", [seconds], task_id=task_id)
        except Exception:  # noqa: BLE001
            account.refused.append(task_id)
        else:
            account.accepted[task_id] = since, time.time()
        time.sleep(max(began + (number + 1) / rate - time.monotonic(), 0))


def _read(account: Account, folder: Path) -> Account:
    """Read what the workers have written."""
    executions: dict[tuple[int, str, str], list[Execution]] = {}
    for path in folder.iterdir():
        pid = int(path.name)
        for line in path.read_text().splitlines():
            moment, what, task, execution = line.split()
            known = executions.setdefault((pid, task, execution), [])
            if what == "began":
                known.append(Execution(task, pid, float(moment)))
            elif what == "cleaned":
                known[-1].cleaned += 1
            else:
                known[-1].ended, known[-1].outcome = float(moment), what
    account.executions = [each for known in executions.values() for each in known]
    return account


def _read_results(account: Account, results: OwnRedis) -> Account:
    """Read what the result backend has."""
    missing = account.unanswered
    if missing:
        with results.client() as client:
            for task, found in zip(missing, client.mget(f"celery-task-meta-{task}" for task in missing), strict=True):
                if found and json.loads(found)["status"] == states.SUCCESS:
                    account.stored.add(task)
    return account


def _of_the_living(account: Account) -> list[Execution]:
    return [each for each in account.executions if each.pid in account.alive]


def _count(app: Celery, queue: str, kind: str, broker: OwnRedis | OwnRabbitMQ) -> int:
    """Count what is in the queue, and what is delivered and not acknowledged."""
    if isinstance(broker, OwnRedis):
        with broker.client() as client:
            return sum([client.llen(queue), client.hlen("unacked"), client.zcard("unacked_index")])
    with app.connection_for_read() as connection, connection.channel() as channel:
        declared: Any = queue_of(kind, queue)(channel).queue_declare(passive=True)
        return int(declared.message_count)


def _asyncio_tasks(app: Celery, workers: int) -> list[int]:
    for _ in range(5):
        with app.connection_for_write() as connection:  # those of the pool may have been cut
            replies = app.control.inspect(timeout=5, limit=workers, connection=connection).stats() or {}
        if len(replies) == workers:
            break
    return [reply["pico_celery"]["asyncio_tasks"] for reply in replies.values()]


def _wait_until(condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.2)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", choices=KINDS, default="redis", help="quorum is RabbitMQ with a quorum queue")
    parser.add_argument("--tasks", type=int, default=10_000, help="how many to send")
    parser.add_argument("--rate", type=float, default=100, help="how many to send a second")
    parser.add_argument("--workers", type=int, default=3, help="how many worker processes there are at a time")
    parser.add_argument("--seed", type=int, default=random.getrandbits(16), help="of the faults")
    parser.add_argument("--logs", type=Path, help="a folder for the workers' logs and all that was recorded")
    options = parser.parse_args(arguments)

    account, workers = run(options.broker, options.tasks, options.rate, options.workers, options.seed)
    title = f"{options.broker}, seed {options.seed}: {'; '.join(account.problems) or 'all is accounted for'}"
    Console().print(account.table(title))
    if options.logs:
        options.logs.mkdir(parents=True, exist_ok=True)
        for worker in workers:
            (options.logs / f"{worker.process.pid}.log").write_text(worker.log)
        (options.logs / "account.txt").write_text(
            "\n".join(map(str, (*account.faults, *sorted(account.executions, key=lambda each: each.began))))
        )
    return bool(account.problems)


if __name__ == "__main__":
    sys.exit(main())
