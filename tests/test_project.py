"""What is around the code: workflows, versions, limits."""

import re
import shutil
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import pico_celery

ROOT = Path(__file__).parent.parent
FORGE = sorted((ROOT / ".github").rglob("*.yml"))
WORKFLOWS = [path for path in FORGE if path.parent.name == "workflows"]
HATCH = tomllib.loads((ROOT / "hatch.toml").read_text(encoding="utf-8"))["envs"]

named = {"ids": lambda path: path.name}


def script(name: str) -> ModuleType:
    """Import a script of CI."""
    spec = spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", FORGE, **named)
def test_every_file_of_the_forge_can_be_read(path):
    assert yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", WORKFLOWS, **named)
def test_a_workflow_pins_its_actions_and_says_what_it_may(path):
    text = path.read_text(encoding="utf-8")
    assert "permissions" in yaml.safe_load(text)
    actions = re.findall(r"uses: (\S+)", text)
    assert [action for action in actions if not re.search(r"@(v\d+|release/v\d+)$", action)] == []


@pytest.mark.parametrize("path", WORKFLOWS, **named)
def test_a_workflow_runs_what_is_there(path):
    text = path.read_text(encoding="utf-8")
    for command in re.findall(r"hatch run (\S+)", text):
        environment, _, name = command.rpartition(":")
        assert name in HATCH[environment or "default"]["scripts"]
    for file in re.findall(r"python (\S+\.py)", text):
        assert (ROOT / file).is_file()


def test_every_file_has_the_one_version():
    assert set(script("release").versions().values()) == {pico_celery.__version__}


def test_a_release_changes_every_version_and_dates_the_changelogs(tmp_path):
    for name in ("pyproject.toml", "CHANGELOG.md", "__init__.py"):
        for path in ROOT.glob(f"packages/*/**/{name}"):
            copy = tmp_path / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    release = script("release")

    release.release("7.8.9", tmp_path)

    assert release.versions(tmp_path).keys() == release.versions().keys()
    assert set(release.versions(tmp_path).values()) == {"7.8.9"}
    worker = (tmp_path / "packages/pico-celery-worker/pyproject.toml").read_text(encoding="utf-8")
    assert '"pico-celery-core>=7.8.9,<7.9"' in worker
    brings = (tmp_path / "packages/pico-celery/pyproject.toml").read_text(encoding="utf-8")
    assert '"pico-celery-worker==7.8.9"' in brings
    for changelog in tmp_path.glob("packages/*/CHANGELOG.md"):
        assert "\n## [Unreleased]\n\n## [7.8.9] - 2" in changelog.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(ROOT.glob("packages/*/README.md")), ids=lambda path: path.parent.name)
def test_a_readme_that_an_index_shows_has_no_relative_links(path):
    links = re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not link.startswith("https://")] == []


def test_llms_txt_names_pages_that_are_there():
    text = (ROOT / "docs/llms.txt").read_text(encoding="utf-8")
    pages = re.findall(r"github\.io/pico-celery/([\w/-]+)/\)", text)
    assert pages
    assert [page for page in pages if not (ROOT / "docs" / f"{page}.md").is_file()] == []
