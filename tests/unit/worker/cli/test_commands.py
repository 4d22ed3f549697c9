"""`celery -A app pico …`, as it is typed."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pico_celery_worker.cli.rendering import Lines

ROOT = Path(__file__).parents[4]

WIRING = """
from celery import Celery
from pico_ioc import DictSource, component, configuration, init, provides
from pico_celery import CeleryClient, TaskContext, celery, send_task, task
"""

APP = """
settings = {"broker_url": "redis://nowhere", "backend_url": None, "imports": IMPORTS}
app = init(modules=["pico_celery", __name__], config=configuration(DictSource({"celery": settings}))).get(Celery)
"""

SHOP = """
@component
class Clock: ...

@component(lazy=True)
class Pool:
    def __init__(self, clock: Clock): ...
    async def __ainit__(self): ...

@component(scope="prototype")
class Orders:
    def __init__(self, pool: Pool, clock: Clock): ...

@component(scope="prototype")
class OrderTasks:
    def __init__(self, orders: Orders, pool: Pool): ...

    @task("orders.confirm", max_retries=3, acks_late=True, autoretry_for=(OSError,))
    async def confirm(
        self, order: int, email: str, subject: str = "Your order", *, copies: tuple[str, ...] = ()
    ) -> dict[str, str]:
        \"\"\"Confirms an order.\"\"\"

    @task("orders.archive")
    async def archive(self) -> None: ...
"""

RISKY = """
from time import sleep

@component
class Tasks:
    @task("nap")
    async def nap(self, seconds: float):
        sleep(seconds)
"""

COMPONENT = '@component(scope="prototype")\n'
GOOD = f"""
{COMPONENT}class Tasks:
    @task("nap")
    async def nap(self, seconds: float): ...
"""

WRONG = """
@component(scope="prototype")
class Tasks:
    @task("nap")
    async def nap(self, seconds: float): ...

@celery
class Client(CeleryClient):
    @send_task("nap")
    def nap(self, duration: float): ...
"""

CONTRADICTORY = WRONG.replace("duration: float", "")

EAGER = """
@component
class Pool:
    async def __ainit__(self): ...
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run `celery -A shop …` with an app of these components."""

    def run(
        components: str, *arguments: str, imports: str = "[]", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        (tmp_path / "shop.py").write_text(f"{WIRING}{components}{APP.replace('IMPORTS', imports)}")
        return celery("-A", "shop", *arguments, path=tmp_path, **environment)

    return run


def celery(*arguments: str, path: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CELERY_")}
    return subprocess.run(
        [sys.executable, "-m", "celery", *arguments],
        cwd=path,
        env={**kept, "PYTHONPATH": str(path), "PYTHONIOENCODING": "utf-8", **environment},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


class TestTasks:
    def test_the_tasks_and_what_they_need(self, run: Run):
        done = run(SHOP, "pico", "tasks")

        assert done.returncode == 0, done.stderr
        assert done.stdout == (
            "orders.archive\n"
            "  handler   shop.OrderTasks.archive\n"
            "  scope     prototype\n"
            "  queue     celery\n"
            "  signature () -> None\n"
            "  needs     Orders (prototype)\n"
            "            ├─ Pool (singleton, awaited at start)\n"
            "            │  └─ Clock (singleton)\n"
            "            └─ Clock (singleton)\n"
            "            Pool (singleton, awaited at start, see above)\n"
            "\n"
            "orders.confirm\n"
            "  Confirms an order.\n"
            "  handler   shop.OrderTasks.confirm\n"
            "  scope     prototype\n"
            "  queue     celery\n"
            "  options   max_retries=3, acks_late=True, autoretry_for=[OSError]\n"
            "  signature (order: int, email: str, subject: str = 'Your order', *, copies:\n"
            "            tuple[str, ...] = ()) -> dict[str, str]\n"
            "  needs     Orders (prototype)\n"
            "            ├─ Pool (singleton, awaited at start)\n"
            "            │  └─ Clock (singleton)\n"
            "            └─ Clock (singleton)\n"
            "            Pool (singleton, awaited at start, see above)\n"
            "\n"
            "2 tasks\n"
        )
        assert max(map(len, done.stdout.splitlines())) <= 80

    def test_json_has_the_documented_keys(self, run: Run):
        done = run(SHOP, "pico", "tasks", "--json")

        assert done.returncode == 0, done.stderr
        archive, confirm = json.loads(done.stdout)["tasks"]
        assert archive["name"] == "orders.archive"
        needs = confirm.pop("needs")
        assert confirm == {
            "name": "orders.confirm",
            "component": "shop.OrderTasks",
            "method": "confirm",
            "scope": "prototype",
            "queue": "celery",
            "options": {"max_retries": 3, "acks_late": True, "autoretry_for": ["OSError"]},
            "signature": "(order: int, email: str, subject: str = 'Your order', *, copies: tuple[str, ...] = ())"
            " -> dict[str, str]",
            "summary": "Confirms an order.",
        }
        assert needs[1] == {
            "name": "Pool",
            "class": "shop.Pool",
            "scope": "singleton",
            "awaited": True,
            "repeated": True,
            "needs": [],
        }

    def test_an_output_that_knows_no_lines_gets_plain_ones(self, run: Run):
        done = run(SHOP, "pico", "tasks", PYTHONIOENCODING="ascii")

        assert done.returncode == 0, done.stderr
        assert "            |- Pool (singleton, awaited at start)\n            |  `- Clock (singleton)\n" in done.stdout

    def test_an_output_of_an_unknown_encoding_gets_plain_lines(self):
        assert Lines.of("not-an-encoding").last == "`- "


class TestCheck:
    @pytest.mark.parametrize("pool", ["threads", "prefork"])
    def test_the_quickstart_has_no_findings(self, pool):
        done = celery("-A", "examples.quickstart.worker", "pico", "check", "--strict", "--pool", pool)

        assert done.returncode == 0, done.stderr
        assert done.stdout == f"0 errors, 0 warnings in 1 task for the {pool} pool\n"

    def test_unless_a_pool_is_named_it_says_what_a_worker_chooses_by_itself(self):
        done = celery("-A", "examples.quickstart.worker", "pico", "check", "--strict")

        assert done.returncode == 0, done.stderr
        assert "info pool-unset: worker_pool\n" in done.stdout
        assert "info concurrency-unset: worker_concurrency\n" in done.stdout
        assert done.stdout.endswith("0 errors, 0 warnings in 1 task for the gevent pool\n")

    def test_a_class_that_is_no_component(self, run: Run):
        done = run(GOOD.replace(COMPONENT, ""), "pico", "check", "--strict")

        assert done.returncode == 1, done.stderr
        assert "warning no-tasks: the container" in done.stdout
        assert "warning undeclared-component: shop.Tasks" in done.stdout
        assert "Did you mean @component(scope='prototype') above the class?" in done.stdout

    @pytest.mark.parametrize(("scope", "hint"), [("prototyp", "'prototype'?"), ("request", "'prototype' or 'task'?")])
    def test_a_scope_that_no_worker_opens(self, run: Run, scope: str, hint: str):
        done = run(GOOD.replace("prototype", scope), "pico", "check")

        assert done.returncode == 1, done.stderr
        assert "error scope: shop.Tasks" in done.stdout
        assert f"Did you mean {hint}" in done.stdout

    def test_warnings_are_shown_and_do_not_fail(self, run: Run):
        done = run(RISKY, "pico", "check", "--pool", "threads")

        assert done.returncode == 0, done.stderr
        assert done.stdout == (
            "warning singleton-component: shop.Tasks\n"
            "  This task component is a singleton: all its executions share one instance and\n"
            "  its state.\n"
            '  Declare it @component(scope="prototype").\n'
            "\n"
            "warning blocking-call: shop.Tasks.nap, line 12\n"
            "  sleep blocks the event loop: all other tasks of the process wait until it\n"
            "  returns.\n"
            "  Await an async counterpart, or `await run_blocking(sleep, ...)`.\n"
            "\n"
            "0 errors, 2 warnings in 1 task for the threads pool\n"
        )

    def test_a_blocking_call_is_also_found_where_celery_patches_this_process(self, run: Run):
        """Celery takes any `--pool gevent` for that of a worker."""
        done = run(RISKY, "pico", "check", "--pool", "gevent")

        assert "warning blocking-call: shop.Tasks.nap" in done.stdout

    def test_strictly_warnings_fail(self, run: Run):
        assert run(RISKY, "pico", "check", "--strict").returncode == 1

    def test_an_unknown_code_to_ignore_is_refused(self, run: Run):
        done = run(GOOD, "pico", "check", "--ignore", "blocking-cal")

        assert done.returncode == 2
        assert "no finding has the code 'blocking-cal'. Did you mean 'blocking-call'?" in done.stderr

    def test_what_is_ignored_does_not_count(self, run: Run):
        codes = ("--ignore", "singleton-component", "--ignore", "blocking-call")
        done = run(RISKY, "pico", "check", "--strict", "--pool", "threads", *codes)

        assert done.returncode == 0, done.stderr
        assert done.stdout == "0 errors, 0 warnings in 1 task for the threads pool\n"

    def test_errors_fail(self, run: Run):
        done = run(WRONG, "pico", "check")

        assert done.returncode == 1, done.stderr
        assert "error contract: shop.Client.nap\n" in done.stdout
        assert "1 error, 0 warnings in 1 task for the gevent pool" in done.stdout

    def test_json_has_the_documented_keys(self, run: Run):
        done = run(WRONG, "pico", "check", "--json", "--pool", "threads")

        assert done.returncode == 1, done.stderr
        assert json.loads(done.stdout) == {
            "pool": "threads",
            "tasks": 1,
            "errors": 1,
            "warnings": 0,
            "findings": [
                {
                    "code": "contract",
                    "severity": "error",
                    "where": "shop.Client.nap",
                    "problem": "(duration=...) does not fit: missing a required argument: 'seconds'. "
                    "The handler is shop.Tasks.nap(seconds: float).",
                    "hint": "Give the stub the handler's parameters.",
                }
            ],
        }

    def test_what_the_worker_imports_is_looked_at_too(self, run: Run, tmp_path: Path):
        (tmp_path / "late.py").write_text(
            "from shop import app\n"
            "@app.task(name='plain', soft_time_limit=1)\n"
            "def plain(): ...\n"
        )  # fmt: skip
        done = run(SHOP, "pico", "check", imports='["late"]')

        assert "warning time-limit: task plain\n" in done.stdout, done.stderr


@pytest.mark.parametrize("command", ["tasks", "check"])
class TestBrokenApp:
    def test_a_stub_that_contradicts_its_handler_is_shown_with_it(self, run: Run, command):
        """The container does not start, so Celery itself says why, and what it always exits with then."""
        done = run(CONTRADICTORY, "pico", command)

        assert done.returncode == 2
        assert "stub:    shop.Client.nap()" in done.stderr
        assert "handler: shop.Tasks.nap(seconds: float)" in done.stderr
        assert done.stdout == ""

    def test_an_async_singleton_that_is_not_lazy_is_named(self, run: Run, command):
        done = run(EAGER, "pico", command)

        assert done.returncode == 2
        assert "Pool" in done.stderr

    def test_an_app_without_a_container_is_refused(self, tmp_path, command):
        (tmp_path / "plain.py").write_text("from celery import Celery\napp = Celery()\n")
        done = celery("-A", "plain", "pico", command, path=tmp_path)

        assert done.returncode == 1
        assert "No container of pico-celery is behind this app." in done.stderr
        assert done.stdout == ""


CONTRACT = """
from pico_celery import CeleryClient, celery, send_task

@celery
class Orders(CeleryClient):
    @send_task("orders.archive")
    def archive(self): ...

    @send_task("orders.konfirm")
    def confirm(self, order: int): ...

    @send_task("orders.confirm")
    def confirm_by_mail(self, order: int, address: str): ...
"""


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    (tmp_path / "far_clients.py").write_text(CONTRACT)
    file = tmp_path / "contract.json"
    command = [sys.executable, "-m", "pico_celery_client", "contract", "far_clients", "-o", str(file)]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    return file


def test_check_holds_the_app_against_a_client_elsewhere(run: Run, contract: Path):
    """A renamed task and a renamed parameter are errors; what agrees is not mentioned."""
    done = run(SHOP, "pico", "check", "--contract", str(contract))

    assert done.returncode == 1, done.stderr
    assert "error no-handler: far_clients.Orders.confirm\n  It sends 'orders.konfirm'" in done.stdout
    assert "error contract: far_clients.Orders.confirm_by_mail" in done.stdout
    assert "archive" not in done.stdout


def test_check_refuses_a_file_that_is_no_contract(run: Run, tmp_path: Path):
    (tmp_path / "odd.json").write_text("[]")
    done = run(SHOP, "pico", "check", "--contract", str(tmp_path / "odd.json"))

    assert done.returncode == 1
    assert "odd.json: This is not a contract that can be read" in done.stderr
