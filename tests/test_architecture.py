"""ARCHITECTURE.md tells what is there: the order of the folders, and the private parts that are used."""

import configparser
import re
from pathlib import Path

import pytest

from tests.private_parts import private_parts

ROOT = Path(__file__).parent.parent
PACKAGES = ROOT / "packages"
TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(title: str) -> list[list[str]]:
    """Return the cells of the first table of a section, without its head."""
    table = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


REGISTER = [(quoted(part), *quoted(module), *quoted(test)) for _, part, module, test in rows("Private parts")]


def source(module: str) -> str:
    [path] = PACKAGES.glob(f"*/src/{module}")
    return path.read_text(encoding="utf-8")


def test_every_private_part_that_is_used_is_in_the_register():
    registered: dict[str, set[str]] = {}
    for names, module, _ in REGISTER:
        registered.setdefault(module, set()).update(names)
    unknown = {module: names - registered.get(module, set()) for module, names in private_parts(PACKAGES).items()}
    assert {module: names for module, names in unknown.items() if names} == {}


@pytest.mark.parametrize(("names", "module", "test"), REGISTER)
def test_what_is_in_the_register_is_used_and_tested(names, module, test):
    text = source(module)
    assert [name for name in names if name.rpartition(".")[2] not in text] == []
    assert (ROOT / test).is_file()


@pytest.mark.parametrize("module", [module for row in rows("Replaced at run time") for module in quoted(row[1])])
def test_what_is_replaced_at_run_time_is_replaced_there(module):
    assert source(module)


def test_the_order_of_the_folders_is_the_one_that_is_held():
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter")
    layers = contracts["importlinter:contract:worker-layers"]["layers"].strip()
    [told] = re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL)
    assert told.strip() == layers


def test_every_folder_of_the_worker_is_on_the_map():
    [worker] = PACKAGES.glob("*/src/pico_celery_worker")
    folders = {f"{path.name}/" for path in worker.iterdir() if (path / "__init__.py").is_file()}
    assert {name for row in rows("The way of a message") for name in quoted(row[0])} == folders
    for folder, _, begin in rows("The way of a message"):
        for module in quoted(begin):
            assert (worker / quoted(folder)[0] / module).is_file()
