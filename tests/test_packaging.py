"""The distributions as a user gets them: built, looked into, and each installed alone into an empty environment.

It takes the packages' dependencies from the package index, or from uv's cache.
"""

import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

import pico_celery
from tests import services

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "pico-celery": {"pico_celery"},
    "pico-celery-core": {"pico_celery", "pico_celery_core"},
    "pico-celery-client": {"pico_celery_client"},
    "pico-celery-worker": {"pico_celery_worker"},
}
# What pytest finds by itself stands beside the packages: a container imports every module of a package.
FIXTURES = {
    "pico-celery-client": {"pytest_pico_celery_client.py"},
    "pico-celery-worker": {"pytest_pico_celery_worker.py"},
}

every_package = pytest.mark.parametrize("name", PACKAGES)
pytestmark = [pytest.mark.thorough, pytest.mark.timeout(420)]


def run(*command: str | Path, folder: Path = ROOT) -> str:
    # What hatch, coverage and Python are told here does not concern these.
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HATCH_", "COV", "PYTHON"))}
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `hatch build --all` makes."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatch", "build", "--all", folder)
    return folder


def wheel(dist: Path, name: str) -> Path:
    (found,) = dist.glob(f"{name.replace('-', '_')}-[0-9]*.whl")
    return found


def sdist(dist: Path, name: str) -> Path:
    (found,) = dist.glob(f"{name.replace('-', '_')}-[0-9]*.tar.gz")
    return found


def files(archive: Path) -> set[str]:
    with zipfile.ZipFile(archive) as opened:
        return set(opened.namelist())


def metadata(archive: Path) -> Message:
    (path,) = (name for name in files(archive) if name.endswith(".dist-info/METADATA"))
    with zipfile.ZipFile(archive) as opened:
        return message_from_bytes(opened.read(path))


# What is in them


def test_one_command_builds_all(dist):
    built = {path.name for path in dist.iterdir()}
    assert len(built) == 2 * len(PACKAGES)


@every_package
def test_a_wheel_holds_its_packages_typed_and_nothing_else(dist, name):
    found = files(wheel(dist, name))
    code = {path for path in found if ".dist-info/" not in path}
    assert {path.split("/")[0] for path in code} == PACKAGES[name] | FIXTURES.get(name, set())
    assert {path for path in code if not path.endswith((".py", ".pyi", "/py.typed"))} == set()
    assert {f"{package}/py.typed" for package in PACKAGES[name]} <= code


@every_package
def test_a_wheel_holds_every_module_of_its_source(dist, name):
    source = ROOT / "packages" / name / "src"
    modules = {path.relative_to(source).as_posix() for path in source.rglob("*.py")}
    assert modules <= files(wheel(dist, name))


@every_package
def test_a_wheel_carries_its_licence(dist, name):
    assert any(path.endswith(".dist-info/licenses/LICENSE") for path in files(wheel(dist, name)))


@every_package
def test_a_source_distribution_holds_source_and_papers_and_no_tests(dist, name):
    archive = sdist(dist, name)
    with tarfile.open(archive) as opened:
        found = {path.partition("/")[2] for path in opened.getnames()}
    assert {"README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "PKG-INFO"} <= found
    assert not [path for path in found if "tests" in path or Path(path).name.startswith(("test_", "conftest"))]


@every_package
def test_a_source_distribution_builds_the_same_wheel(dist, tmp_path, name):
    run("uv", "build", "--quiet", "--wheel", "--out-dir", tmp_path, sdist(dist, name))
    assert files(wheel(tmp_path, name)) == files(wheel(dist, name))


@every_package
def test_metadata_says_what_an_index_shows(dist, name):
    said = metadata(wheel(dist, name))
    assert said["Name"] == name
    assert said["Requires-Python"] == ">=3.11"
    assert said["License-Expression"] == "MIT"
    assert said["Description-Content-Type"] == "text/markdown"
    assert str(said.get_payload()).strip()
    assert "Typing :: Typed" in said.get_all("Classifier", [])


@every_package
def test_siblings_are_pinned_by_a_compatible_range(dist, name):
    required = metadata(wheel(dist, name)).get_all("Requires-Dist", [])
    siblings = sorted(requirement for requirement in required if requirement.startswith("pico-celery"))
    assert siblings == SIBLINGS[name]
    assert all("<" in requirement or "==" in requirement for requirement in required), required


SIBLINGS = {
    "pico-celery": ["pico-celery-client==0.3.0", "pico-celery-core==0.3.0", "pico-celery-worker==0.3.0"],
    "pico-celery-core": [],
    "pico-celery-client": ["pico-celery-core<0.4,>=0.3.0"],
    "pico-celery-worker": ["pico-celery-core<0.4,>=0.3.0"],
}


def test_all_have_one_version(dist):
    assert {metadata(wheel(dist, name))["Version"] for name in PACKAGES} == {pico_celery.__version__}


def test_the_front_door_is_the_same_in_both_that_bring_it(dist):
    """So that it stays whole in whichever order the two are installed."""
    one, other = (zipfile.ZipFile(wheel(dist, name)) for name in ("pico-celery", "pico-celery-core"))
    with one, other:
        shared = [path for path in one.namelist() if path.startswith("pico_celery/")]
        assert shared == [path for path in other.namelist() if path.startswith("pico_celery/")]
        assert [path for path in shared if one.read(path) != other.read(path)] == []


# What happens to an installation of 0.2

OLD_FILES = ("__init__", "_version", "client", "config", "decorators", "factory", "registrar")


def old_wheel(folder: Path) -> Path:
    """Make a wheel with the files that pico-celery 0.2.4 has."""
    path, about = folder / "pico_celery-0.2.4-py3-none-any.whl", "pico_celery-0.2.4.dist-info"
    written = {f"pico_celery/{name}.py": "" for name in OLD_FILES} | {"pico_celery/py.typed": ""}
    written[f"{about}/METADATA"] = "Metadata-Version: 2.1\nName: pico-celery\nVersion: 0.2.4\n"
    written[f"{about}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    written[f"{about}/RECORD"] = "".join(f"{name},,\n" for name in [*written, f"{about}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in written.items():
            archive.writestr(name, text)
    return path


def test_upgrading_from_the_older_distribution_leaves_a_whole_front_door(dist, tmp_path):
    """As pip does it: what pico-celery needs comes first, then the old version goes, then the new one comes."""
    python = tmp_path / "venv" / "bin" / "python"
    run("uv", "venv", "--quiet", "--python", sys.executable, tmp_path / "venv")
    install(python, "--no-deps", old_wheel(tmp_path))
    install(python, "--no-deps", *(wheel(dist, name) for name in PACKAGES if name != "pico-celery"))
    assert run(python, "-c", MIXED, folder=tmp_path).splitlines() == ["explained"]
    install(python, "--no-deps", wheel(dist, "pico-celery"))
    assert run(python, "-c", UPGRADED, folder=tmp_path).splitlines() == ["0.3.0", "True"]


MIXED = """
try:
    import pico_celery_core
except ImportError as error:
    print("explained" if "pip install --upgrade pico-celery" in str(error) else error)
"""
UPGRADED = """
import pico_celery, pico_celery.errors
from pico_celery import send_task, task
print(pico_celery.__version__)
print("core" in task.__module__)
"""


# What they do when they alone are installed

Environment = Callable[[str], Path]


@pytest.fixture(scope="session")
def environment(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Make an environment with one package, and what it declares that it needs: the path of its Python."""
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp(name) / "venv"
            run("uv", "venv", "--quiet", "--python", sys.executable, folder)
            made[name] = folder / "bin" / "python"
            install(made[name], "--find-links", dist, wheel(dist, name))
        return made[name]

    return make


def install(python: Path, *what: str | Path) -> None:
    run("uv", "pip", "install", "--quiet", "--python", python, *what)


def said_by(python: Path, folder: Path, script: str) -> list[str]:
    (folder / "smoke.py").write_text(script)
    return run(python, "-W", "error", "smoke.py", folder=folder).splitlines()


def test_the_client_sends_without_gevent_and_without_the_worker(environment, tmp_path):
    assert said_by(environment("pico-celery-client"), tmp_path, CLIENT) == [
        "not found",
        "not found",
        "greet.hello",
        "True",
    ]


CLIENT = """
from importlib.util import find_spec
from celery import Celery
from celery.result import AsyncResult
from kombu import Connection
from pico_ioc import DictSource, configuration, init
from pico_celery import CeleryClient, celery, send_task

@celery
class Greeter(CeleryClient):
    @send_task("greet.hello")
    def hello(self, name: str) -> str: ...

for name in ("gevent", "pico_celery_worker"):
    print("found" if find_spec(name) else "not found")
config = configuration(DictSource({"celery": {"broker_url": "memory://", "backend_url": "cache+memory://"}}))
client = init(modules=["pico_celery", __name__], config=config).get(Greeter)
result = client.hello("alice")
with Connection("memory://") as connection, connection.SimpleQueue("celery") as queue:
    print(queue.get_nowait().headers["task"])
print(isinstance(result, AsyncResult))
"""


def test_the_worker_runs_a_task_without_the_client(environment, tmp_path):
    assert said_by(environment("pico-celery-worker"), tmp_path, WORKER) == ["not found", "Hello alice"]


WORKER = """
from importlib.util import find_spec
from celery import Celery
from pico_ioc import DictSource, component, configuration, init
from pico_celery import task

@component
class Greetings:
    word = "Hello"

@component(scope="prototype")
class GreetingTasks:
    def __init__(self, greetings: Greetings) -> None:
        self.greetings = greetings

    @task("greet.hello")
    async def hello(self, name: str) -> str:
        return f"{self.greetings.word} {name}"

print("found" if find_spec("pico_celery_client") else "not found")
config = configuration(DictSource({"celery": {"broker_url": "memory://", "backend_url": "cache+memory://"}}))
container = init(modules=["pico_celery", __name__], config=config)
print(container.get(Celery).tasks["greet.hello"].apply(("alice",)).get())
"""


@pytest.mark.services
def test_values_go_from_a_client_alone_to_a_worker_alone_and_back(environment, tmp_path):
    """Each has classes of its own; all that they share is the form of a message."""
    client, worker = environment("pico-celery-client"), environment("pico-celery-worker")
    for python in (client, worker):
        install(python, "pydantic", "redis")
    with services.redis_database() as url, (tmp_path / "log").open("w") as log:
        settings = (
            f"config = configuration(DictSource({{'celery': {{'broker_url': {url!r}, 'backend_url': {url!r}}}}}))"
        )
        (tmp_path / "parcels.py").write_text(PARCEL_WORKER.replace("SETTINGS", settings))
        command = [worker, "-m", "celery", "-A", "parcels", "worker", "-P", "gevent", "-c", "2"]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
        try:
            assert said_by(client, tmp_path, PARCEL_CLIENT.replace("SETTINGS", settings)) == [
                "Receipt(price=Decimal('4.50'), took=datetime.timedelta(days=2), colours={<Colour.RED: 'red'>})",
                "HandlerArgumentsError",
            ], (tmp_path / "log").read_text()
        finally:
            process.terminate()
            process.wait(60)


PARCEL_CLIENT = """
import enum
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pico_ioc import DictSource, configuration, init
from pico_celery import CeleryClient, celery, send_task

class Colour(enum.Enum):
    RED = "red"

@dataclass
class Parcel:
    weight: Decimal
    colours: set[Colour]

@dataclass
class Receipt:
    price: Decimal
    took: timedelta
    colours: set[Colour]

@celery
class Parcels(CeleryClient):
    @send_task("parcels.ship")
    def ship(self, parcel: Parcel, wait: timedelta = timedelta(days=1)) -> Receipt: ...

    @send_task("parcels.ship")
    def other(self, parcel: int) -> Receipt: ...

SETTINGS
client = init(modules=["pico_celery", __name__], config=config).get(Parcels)
print(client.ship(Parcel(Decimal("1.50"), {Colour.RED})).get(timeout=120))
try:
    client.other(3).get(timeout=120)
except Exception as error:
    print(type(error).__name__)
"""
PARCEL_WORKER = """
from datetime import timedelta
from decimal import Decimal
from typing import Literal
from celery import Celery
from pico_ioc import DictSource, component, configuration, init
from pico_celery import task
from pydantic import BaseModel

class Parcel(BaseModel):
    weight: Decimal
    colours: frozenset[Literal["red", "blue"]]

class Receipt(BaseModel):
    price: Decimal
    took: timedelta
    colours: frozenset[str]

@component(scope="prototype")
class ParcelTasks:
    @task("parcels.ship")
    async def ship(self, parcel: Parcel, wait: timedelta) -> Receipt:
        return Receipt(price=parcel.weight * 3, took=wait * 2, colours=parcel.colours)

SETTINGS
app = init(modules=["pico_celery", __name__], config=config).get(Celery)
"""


def test_the_core_alone_says_what_to_install_for_the_rest(environment, tmp_path):
    assert said_by(environment("pico-celery-core"), tmp_path, CORE) == [
        "PicoTaskRegistrar needs pico-celery-worker: pip install pico-celery-worker",
        "celery needs pico-celery-client: pip install pico-celery-client",
        "CeleryClient needs pico-celery-client: pip install pico-celery-client",
        "pico_celery",
    ]


CORE = """
from celery import Celery
from pico_ioc import init
import pico_celery
from pico_celery import CeleryFactory, CelerySettings, send_task, task

for name in ("PicoTaskRegistrar", "celery", "CeleryClient"):
    try:
        getattr(pico_celery, name)
    except ImportError as error:
        print(error)
print(init(modules=["pico_celery"]).get(Celery).main)
"""


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("pico-celery-core", ["Celery"]),
        ("pico-celery-client", ["Celery", "CeleryClientInterceptor"]),
        ("pico-celery-worker", ["Celery", "PicoTaskRegistrar"]),
    ],
)
def test_pico_boot_finds_what_is_installed_by_itself(environment, tmp_path, name, found):
    python = environment(name)
    install(python, "pico-boot")
    assert said_by(python, tmp_path, BOOT) == found


BOOT = """
from pico_boot import init

components = {getattr(key, "__name__", key) for key in init(modules=[__name__]).keys()}
for name in ("Celery", "CeleryClientInterceptor", "PicoTaskRegistrar"):
    if name in components:
        print(name)
"""
