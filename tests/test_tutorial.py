"""The tutorial, followed to the letter: its files in an empty folder, with the distributions installed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/tutorial/first-task.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = [line for block in re.findall(r"```shell\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


def environment_with(*variables: str) -> dict[str, str]:
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("HATCH_", "COV", "PYTHON", "CELERY"))
    }
    return kept | dict(pair.split("=", 1) for pair in variables)


@contextmanager
def running(command: list[str | Path], ready: str, folder: Path, environment: dict[str, str]) -> Generator[str]:
    """Run a command, and yield the line by which it says that it is ready."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout
        output = ""
        for line in process.stdout:
            output += line
            if ready in line:
                break
        else:
            pytest.fail(output)
        yield line
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def test_the_page_shows_every_file_that_it_names():
    assert {"services.py", "tasks.py", "worker.py", "client.py", "send.py", "web.py", "test_tasks.py"} == FILES.keys()
    assert not re.search(r"```python\n(?!# \w+\.py\n)", PAGE)


def test_it_installs_what_is_there():
    installed = {name for line in COMMANDS if line.startswith("pip install") for name in line.split()[2:]}
    assert installed == {"pico-celery", "fastapi", "uvicorn", "pytest", "pytest-asyncio"}


@pytest.mark.thorough
@pytest.mark.timeout(420)
def test_it_works_to_the_letter(tmp_path: Path, redis_url: str) -> None:
    folder, wheels, venv = tmp_path / "empty", tmp_path / "dist", tmp_path / "venv"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    environment = environment_with(f"CELERY_BROKER_URL={redis_url}", f"CELERY_RESULT_BACKEND={redis_url}")

    def run(*command: str | Path, at: Path = folder) -> str:
        done = subprocess.run(command, cwd=at, env=environment, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    for package in (ROOT / "packages").iterdir():
        source = tmp_path / "source" / package.name  # a copy, so that nothing is built in the tree
        shutil.copytree(package, source)
    for source in (tmp_path / "source").iterdir():
        run("uv", "build", "--quiet", "--wheel", "--out-dir", wheels, source)
    run("uv", "venv", "--quiet", "--python", sys.executable, venv)
    python = venv / "bin" / "python"
    required = ["pico-celery", "fastapi", "uvicorn", "pytest", "pytest-asyncio"]
    run("uv", "pip", "install", "--quiet", "--python", python, "--find-links", wheels, *required)

    command = next(line for line in COMMANDS if line.startswith("celery -A worker worker")).split()
    with running([venv / "bin" / command[0], *command[1:]], " ready.", folder, environment):
        assert run(python, "send.py") == "To ada@shop.example: Order 7 is confirmed.\n"

        web = [venv / "bin" / "uvicorn", "web:app", "--port", "0"]
        with running(web, "running on", folder, environment) as line:
            address = re.search(r"http://\S+", line)
            assert address
            order = urllib.request.Request(f"{address[0]}/orders/8?email=ada@shop.example", method="POST")
            with urllib.request.urlopen(order, timeout=60) as answer:
                task = json.load(answer)["task"]
            with urllib.request.urlopen(f"{address[0]}/tasks/{task}", timeout=120) as answer:
                events = [json.loads(event[6:]) for event in answer.read().decode().strip().split("\n\n")]
    assert events[-1] == {"result": "To ada@shop.example: Order 8 is confirmed."}
    assert "1 passed" in run(python, "-m", "pytest", "-q")
