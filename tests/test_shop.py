"""The shop, with its web service, its worker and its schedule, tried in a real browser."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from celery import Celery
from pico_ioc import DictSource, configuration, init

from examples.shop.config import settings
from examples.shop.contracts import PRODUCTS
from examples.shop.web.client import OrderClient
from examples.shop.worker.app import app
from examples.shop.worker.services import SECONDS_TO_MAKE
from pico_celery_core import stubs

WORKER = ("database", "services", "tasks")
DATABASE = {"database": {"url": "sqlite+aiosqlite://"}}
ROOT = Path(__file__).parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

needs_browser = pytest.mark.skipif(
    not any(map(shutil.which, BROWSERS)) or not find_spec("playwright"),
    reason="Chromium or Playwright is not installed",
)


@contextmanager
def shop(folder: Path, **environment: str) -> Generator[str]:
    """Run the shop, and yield its address. Its end has to be clean."""
    kept = {name: value for name, value in os.environ.items() if not re.search("BROKER|BACKEND|DATABASE", name)}
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.shop", "--port", "0"],
        cwd=ROOT,
        env={**kept, "TMPDIR": str(folder), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout
        output = ""
        for line in process.stdout:
            output += line
            opened = re.search(r"The shop is open: (http://\S+)", line)
            if opened:
                break
        else:
            pytest.fail(f"The shop did not open:\n{output}")
        yield opened[1]
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output + rest
        assert not list(folder.iterdir()), "something is left over"
    finally:
        if process.poll() is None:
            process.terminate()  # so that it stops its worker
            process.communicate(timeout=60)


@needs_browser
@pytest.mark.thorough
@pytest.mark.timeout(600)
@pytest.mark.parametrize("broker", ["files", "redis"])
def test_the_shop_in_a_browser(broker: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Orders are delivered, cancelled, retried, fail and are sent again, on a phone and on a desktop."""
    url = request.getfixturevalue("redis_url") if broker == "redis" else ""
    environment = {"CELERY_BROKER_URL": url, "CELERY_BACKEND_URL": url} if url else {}
    folder = tmp_path / "temporary"
    folder.mkdir()
    # The browser has a process of its own, so that none of its sockets is left to this one.
    with shop(folder, **environment) as address:
        command = [sys.executable, "-m", "tests.shop_browser", address]
        tried = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=2000)
        assert tried.returncode == 0, tried.stdout + tried.stderr
        assert list(folder.glob("shop-*/shop.db"))
    assert "All is well." in tried.stdout


def test_the_schedule_names_a_task_that_is_there():
    scheduled = {entry["task"] for entry in settings["celery"]["beat_schedule"].values()}
    assert scheduled <= set(app.tasks)


def test_what_is_sent_is_what_is_handled():
    """Stub and handlers are in one container here, which checks that their signatures fit."""
    memory = DictSource({"celery": {"broker_url": "memory://", "backend_url": "cache+memory://"}, **DATABASE})
    modules = ["pico_celery", "examples.shop.web.client", *(f"examples.shop.worker.{name}" for name in WORKER)]
    container = init(modules=modules, config=configuration(memory))
    assert {spec.name for _, spec in stubs(OrderClient)} <= set(container.get(Celery).tasks)
    assert PRODUCTS.keys() == SECONDS_TO_MAKE.keys()


@pytest.mark.parametrize(
    ("part", "others"),
    [
        ("web.app", ["pico_celery_worker", "gevent", "sqlalchemy", "aiosqlite"]),
        ("worker.app", ["pico_celery_client", "fastapi", "uvicorn", "pydantic"]),
    ],
)
def test_each_part_imports_its_own_packages_alone(part: str, others: list[str]) -> None:
    code = (
        "import sys; from importlib import import_module, util\n"
        f"find, others = util.find_spec, {others}\n"
        "util.find_spec = lambda name, package=None: None if name in others else find(name, package)\n"
        "sys.modules.update(dict.fromkeys(others))\n"
        f"import_module('examples.shop.{part}')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("target", ["web", "worker"])
def test_an_image_has_what_its_part_needs(target: str) -> None:
    """What the Dockerfile copies is where the part imports from."""
    stage = (ROOT / "examples/shop/Dockerfile").read_text(encoding="utf-8").partition(f"AS {target}\n")[2]
    assert f"./packages/pico-celery-{'client' if target == 'web' else 'worker'} " in stage.partition("USER")[0]
    assert f"COPY examples/shop/{target} " in stage.partition("USER")[0]
    for path in (ROOT / "examples/shop" / target).glob("*.py"):
        other = "worker" if target == "web" else "web"
        assert f"examples.shop.{other}" not in path.read_text(encoding="utf-8")
